import uuid
from pathlib import Path

from structlog.testing import capture_logs

from agent.adapters.host.boots import forget_older_boots


def test_directories_of_older_boots_go_and_nothing_else_does(tmp_path: Path) -> None:
    now, before, linked = (tmp_path / str(uuid.uuid4()) for _ in range(3))
    for each in (now, before, tmp_path / "notes"):
        (each / "ipam").mkdir(parents=True)
        (each / "ipam/leases.json").write_text("{}")
    elsewhere = tmp_path / "notes"
    linked.symlink_to(elsewhere)
    with capture_logs() as logs:
        forget_older_boots(now)
    assert {each.name for each in tmp_path.iterdir()} == {now.name, "notes", linked.name}
    assert (now / "ipam/leases.json").exists()
    assert (elsewhere / "ipam/leases.json").exists()
    assert [line["event"] for line in logs] == ["boot.forgotten"]


def test_a_directory_that_no_boot_has_named_has_no_older_ones(tmp_path: Path) -> None:
    other = tmp_path / str(uuid.uuid4())
    other.mkdir()
    forget_older_boots(tmp_path / "run")
    assert other.is_dir()


def test_before_the_first_boot_there_is_nothing_to_forget(tmp_path: Path) -> None:
    forget_older_boots(tmp_path / "boots" / str(uuid.uuid4()))
    assert list(tmp_path.iterdir()) == []
