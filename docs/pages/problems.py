"""What a page says when the code has something that it cannot describe."""


class Undocumented(Exception):
    """The text names what has no description and where to write one."""
