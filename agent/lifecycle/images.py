"""When an image is pulled, and what a failed pull means (``ECS_IMAGE_PULL_BEHAVIOR``)."""

from agent.model.spec import PullBehavior


def must_look_first(behavior: PullBehavior) -> bool:
    """Whether an image that is already here may do without a pull."""
    return behavior in (PullBehavior.PREFER_CACHED, PullBehavior.ONCE)


def must_pull(behavior: PullBehavior, *, is_present: bool, was_pulled_before: bool) -> bool:
    """Whether the registry is asked. ``once`` trusts its own record, not the presence (ecs-protocol 4.8)."""
    if behavior is PullBehavior.PREFER_CACHED:
        return not is_present
    if behavior is PullBehavior.ONCE:
        return not was_pulled_before
    return True


def may_use_cached(behavior: PullBehavior) -> bool:
    """Whether a failed pull is forgiven when the image is present."""
    return behavior is PullBehavior.DEFAULT
