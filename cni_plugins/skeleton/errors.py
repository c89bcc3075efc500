"""How a plugin says no: one error type, with the codes of the CNI specification."""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN = 11
NOT_AVAILABLE = 50
FAILED = 100  # what the older plugins used for everything; here: the kernel or the state refused
CRASHED = 999  # a bug of ours, as in the reference skeleton


class CniError(Exception):
    """A plugin's refusal.

    Attributes:
        code: one of this module's numbers.
        message: short; for one problem on one line.
        details: longer, may be empty.
    """

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def as_document(self, version: str) -> dict[str, object]:
        """The error object of the specification, in the dialect of `version`."""
        document: dict[str, object] = {"cniVersion": version, "code": self.code, "msg": self.message}
        if self.details:
            document["details"] = self.details
        return document


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that only the code which undoes an ADD may catch it."""
