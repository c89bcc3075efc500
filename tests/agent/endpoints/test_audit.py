import stat

import pytest

from agent.endpoints.audit import GET_CREDENTIALS, AuditLog, AuditRecord, audit_line
from agent.endpoints.health import HealthBoard
from agent.model.ids import TaskArn
from tests.fakes.clock import NOON, FakeClock

ARN = TaskArn("arn:aws:ecs:us-west-2:123456789012:task/default/0123456789abcdef0123456789abcdef")
RECORD = AuditRecord(
    status=200,
    remote="169.254.172.2:40000",
    path="/v2/credentials",
    user_agent="aws-sdk/1",
    task=ARN,
    event=GET_CREDENTIALS,
)


@pytest.fixture
def board():
    return HealthBoard(FakeClock())


def test_a_line_has_the_documented_form():
    assert audit_line(RECORD, NOON, "default", "arn:instance") == (
        '2026-01-01T12:00:00Z 200 169.254.172.2:40000 "/v2/credentials" "aws-sdk/1" '
        f"{ARN} GetCredentials 2 default arn:instance"
    )


def test_without_a_role_the_line_ends_after_the_task():
    record = AuditRecord(status=400, remote="169.254.172.2:40000", path="/v2/credentials", user_agent="")
    assert audit_line(record, NOON, "default", "arn:instance") == (
        '2026-01-01T12:00:00Z 400 169.254.172.2:40000 "/v2/credentials" "-" - '
    )


def test_missing_names_are_dashes():
    assert audit_line(RECORD, NOON, "", "").endswith(" GetCredentials 2 - -")


def test_a_user_agent_cannot_forge_a_line():
    record = AuditRecord(status=200, remote="a:1", path="/", user_agent='x"\n2026 200 "forged\\')
    line = audit_line(record, NOON, "c", "i")
    assert "\n" not in line
    assert line.count('"') == 4


def test_the_file_is_private_and_turned_over_by_size(tmp_path, board):
    path = tmp_path / "log" / "audit.log"
    audit = AuditLog(path, FakeClock(), board, cluster="default", max_bytes=400, keep=2)
    for _ in range(20):
        audit.write(RECORD)
    audit.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(file.stat().st_size <= 400 for file in path.parent.iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_restart_goes_on_in_the_same_file(tmp_path, board):
    path = tmp_path / "audit.log"
    for _ in range(2):
        audit = AuditLog(path, FakeClock(), board)
        audit.write(RECORD)
        audit.close()
    assert len(path.read_text().splitlines()) == 2


def test_a_file_that_was_moved_away_is_made_again(tmp_path, board):
    path = tmp_path / "audit.log"
    audit = AuditLog(path, FakeClock(), board)
    audit.write(RECORD)
    path.rename(tmp_path / "elsewhere")
    audit.write(RECORD)
    audit.close()
    assert len(path.read_text().splitlines()) == 1


def test_a_file_that_cannot_be_written_is_a_health_problem_until_it_can(tmp_path, board):
    path = tmp_path / "audit.log"
    path.mkdir()
    audit = AuditLog(path, FakeClock(), board)
    audit.write(RECORD)
    assert board.is_impaired
    assert "audit.log" in board.snapshot()[0].reason
    path.rmdir()
    audit.write(RECORD)
    audit.close()
    assert not board.is_impaired


def test_no_path_means_no_file(board):
    AuditLog(None, FakeClock(), board).write(RECORD)
    assert board.snapshot() == ()
