"""The sandbox's own image: a static program that waits, and the archive it is shipped in."""
