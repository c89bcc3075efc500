"""Every word of the ``berth`` command."""

from agent.cli.vocabulary import node, shell, tasks
from agent.cli.words import Word

WORDS: tuple[Word, ...] = (*tasks.WORDS, *node.WORDS, *shell.WORDS)
"""In the order of the overview."""


def word_named(name: str) -> Word | None:
    """The word of that name."""
    return next((word for word in WORDS if word.name == name), None)
