"""Which build this is. `cni_plugins.build` writes another module in this one's place into each executable."""

VERSION = ""
GIT_SHORT_HASH = ""
DIRTY = True  # an unstamped tree is not a release, so it says so
