"""When images are pulled. Apart from ``spec``, which the command line need not load to read the settings."""

from enum import StrEnum


class PullBehavior(StrEnum):
    """``ECS_IMAGE_PULL_BEHAVIOR``: when an image is pulled, and what a failed pull means."""

    DEFAULT = "default"
    ALWAYS = "always"
    ONCE = "once"
    PREFER_CACHED = "prefer-cached"
