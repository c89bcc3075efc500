"""What a machine finds out about itself before it joins a cluster."""

import pytest

from agent.daemon.joining import check_cloud_init, cloud_init_result
from agent.model.errors import CannotStart

MISSED = '{"v1": {"datasource": "DataSourceNone", "errors": []}}'
FOUND = '{"v1": {"datasource": "DataSourceEc2Local", "errors": []}}'


def test_a_machine_that_missed_its_user_data_does_not_join():
    with pytest.raises(CannotStart, match="cloud-init found none of it") as refused:
        check_cloud_init(MISSED, "#!/bin/sh")
    assert refused.value.is_final


@pytest.mark.parametrize(
    ("result", "user_data"),
    [
        (FOUND, "#!/bin/sh"),
        (MISSED, ""),
        (MISSED, None),
        (None, "#!/bin/sh"),
        ("not json", "#!/bin/sh"),
        ("[]", "#!/bin/sh"),
        ('{"v1": null}', "#!/bin/sh"),
    ],
)
def test_everything_else_says_nothing_against_it(result, user_data):
    check_cloud_init(result, user_data)


def test_a_machine_without_cloud_init_says_nothing(tmp_path):
    assert cloud_init_result(tmp_path / "result.json") is None
    (tmp_path / "result.json").write_text(FOUND)
    assert cloud_init_result(tmp_path / "result.json") == FOUND
