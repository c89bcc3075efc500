"""What an AWS refusal means for an image pull, and what the customer should check."""

PERMISSION_HINT = (
    "The task can\N{RIGHT SINGLE QUOTATION MARK}t pull the image. Check that the role has the permissions to "
    "pull images from the registry."
)
"""The sentence of the ECS agent (ecs-protocol 4.8)."""

USELESS_TO_REPEAT = frozenset(
    {
        "DecryptionFailure",
        "InvalidParameterException",
        "InvalidRequestException",
        "ResourceNotFoundException",
        "ValidationException",
    }
)
"""Codes of ECR and Secrets Manager after which the same request can only fail again."""

_NO_PERMISSION = frozenset({"AccessDenied", "AccessDeniedException"})


def with_hint(code: str, sentence: str) -> str:
    """The sentence, behind a hint if it is about permissions."""
    return f"{PERMISSION_HINT} {sentence}" if code in _NO_PERMISSION else sentence
