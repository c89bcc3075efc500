"""What the ECS API answers when it refuses: the exceptions of Amazon ECS, by the names on the wire."""

from typing import ClassVar


class ApiError(Exception):
    """A refusal. ``kind``: its type on the wire; ``status``: the HTTP status; the text: the message."""

    kind: ClassVar[str] = "ServerException"
    status: ClassVar[int] = 500


class ServerFault(ApiError):
    """Our own trouble; the same request may succeed later."""


class ClientFault(ApiError):
    """The request asks for something that cannot be."""

    kind = "ClientException"
    status = 400


class InvalidParameter(ApiError):
    """A parameter is wrong, or does not fit the others."""

    kind = "InvalidParameterException"
    status = 400


class ClusterNotFound(ApiError):
    """There is no such cluster."""

    kind = "ClusterNotFoundException"
    status = 400


class ResourceNotFound(ApiError):
    """There is nothing with that ARN."""

    kind = "ResourceNotFoundException"
    status = 400


class LimitExceeded(ApiError):
    """One more would be too many."""

    kind = "LimitExceededException"
    status = 400


class Conflict(ApiError):
    """The client token was used before, for another request."""

    kind = "ConflictException"
    status = 400


class UnknownOperation(ApiError):
    """The operation does not exist here."""

    kind = "UnknownOperationException"
    status = 400


class Unreadable(ApiError):
    """The body is not a JSON object."""

    kind = "SerializationException"
    status = 400


class AccessDenied(ApiError):
    """The request came in a way that is not allowed, whoever signed it."""

    kind = "AccessDeniedException"
    status = 403


class UnknownAccessKey(ApiError):
    """Nobody has this access key."""

    kind = "UnrecognizedClientException"
    status = 400


class InvalidSignature(ApiError):
    """The signature does not fit the request, or is too old."""

    kind = "InvalidSignatureException"
    status = 400


class MissingAuthentication(ApiError):
    """The request is not signed."""

    kind = "MissingAuthenticationTokenException"
    status = 400
