"""The words about the command itself."""

from agent.cli.words import JSON, Example, Option, Word

_HELP = Word(
    "help",
    "command",
    "agent.cli.help:show",
    "what there is, or one word explained",
    "Without a word: everything that berth can do, in groups. With one: what it is for, its options, "
    "examples and exit codes; berth WORD --help shows the same.",
    (Option("WORD", "the word to explain", "WORD", completes="word", takes="optional"),),
    (Example("berth help logs"),),
    ("man",),
)

_MAN = Word(
    "man",
    "command",
    "agent.cli.man:show",
    "this manual as a page for man",
    "Prints the manual page berth(1), made from the same source as the help. It is for machines where the "
    "page is not installed, such as in a container.",
    (),
    (
        Example("berth man | man -l -"),
        Example("berth man > /usr/local/share/man/man1/berth.1"),
    ),
    ("help",),
)

_COMPLETION = Word(
    "completion",
    "command",
    "agent.cli.completion:completion",
    "what makes a shell complete words, options and task ids",
    "Prints a script for a shell. It completes words and options by itself; for ids of tasks, names of "
    "containers, clusters and families it asks the agent, for a second at most, and is silent if there is "
    "no answer.",
    (Option("SHELL", "bash, zsh or fish", "SHELL", choices=("bash", "zsh", "fish")),),
    (
        Example('eval "$(berth completion bash)"'),
        Example("berth completion bash > /etc/bash_completion.d/berth"),
        Example("berth completion zsh > /usr/local/share/zsh/site-functions/_berth"),
        Example("berth completion fish > ~/.config/fish/completions/berth.fish"),
    ),
    ("help",),
)

_VERSION = Word(
    "version",
    "command",
    "agent.cli.node:version",
    "the version of this command",
    "Prints the version of this command. That of the running agent is told by berth status; they differ "
    "between an upgrade and the next start.",
    (JSON,),
    (Example("berth version", "berth 0.1.0"),),
    ("status",),
)

WORDS: tuple[Word, ...] = (_HELP, _MAN, _COMPLETION, _VERSION)
