"""How a command ends: exit codes, and the failure that carries one with a message for its user."""

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
NOT_RUNNING = 4


class Failure(Exception):
    """The command cannot go on. The text says what happened and what to do; ``code`` is the exit code.

    ``status``: the HTTP status with which the agent refused; None: it was not the agent that did.
    """

    def __init__(self, text: str, code: int = FAILED, *, status: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
