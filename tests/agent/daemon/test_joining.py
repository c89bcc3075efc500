"""What keeps a machine from joining a cluster before it has said a word."""

import json

import pytest
from structlog.testing import capture_logs

from agent.daemon.joining import CLOUD_INIT_RESULT, check_cloud_init, cloud_init_file, cloud_init_result
from agent.model.errors import CannotStart

MISSED = json.dumps({"v1": {"datasource": "DataSourceNone", "errors": []}})
FOUND = json.dumps({"v1": {"datasource": "DataSourceEc2Local", "errors": []}})
USER_DATA = "#!/bin/sh\necho fake-secret-in-user-data\n"


def test_user_data_that_cloud_init_has_missed_ends_the_start_for_good():
    with pytest.raises(CannotStart, match="DataSourceNone") as caught:
        check_cloud_init(MISSED, USER_DATA)
    assert caught.value.is_final
    assert "fake-secret" not in str(caught.value)


@pytest.mark.parametrize("user_data", [None, ""])
def test_without_user_data_nothing_was_missed(user_data):
    assert check_cloud_init(MISSED, user_data) is None


@pytest.mark.parametrize(
    "result",
    [
        None,
        "",
        "{",
        FOUND,
        "[" * 200_000,
        *map(json.dumps, (None, [], "DataSourceNone", {}, {"v1": None}, {"v1": ["DataSourceNone"]})),
        *map(json.dumps, ({"datasource": "DataSourceNone"}, {"v1": {"datasource": None}})),
    ],
)
def test_whatever_else_cloud_init_says_is_no_objection(result):
    assert check_cloud_init(result, USER_DATA) is None


def test_the_result_is_read_where_cloud_init_leaves_it(tmp_path):
    assert cloud_init_file(in_container=False) == CLOUD_INIT_RESULT
    assert str(CLOUD_INIT_RESULT) == "/run/cloud-init/result.json"
    assert str(cloud_init_file(in_container=True)) == "/proc/1/root/run/cloud-init/result.json"
    file = tmp_path / "result.json"
    with capture_logs() as logs:
        assert cloud_init_result(file) is None
        file.write_text(MISSED)
        assert cloud_init_result(file) == MISSED
    assert logs == []


def test_a_result_that_is_no_text_is_no_reason_to_fail(tmp_path):
    file = tmp_path / "result.json"
    file.write_bytes(b"\xff\xfe{")
    assert check_cloud_init(cloud_init_result(file), USER_DATA) is None
    with capture_logs() as logs:
        assert cloud_init_result(tmp_path) is None
    assert [(line["event"], line["problem"]) for line in logs] == [("cloud_init.doubted", "Is a directory")]
