"""The manual page berth(1), as roff, from the same source as the help."""

import argparse
from collections.abc import Iterator

from agent import __version__
from agent.cli.failures import OK
from agent.cli.help import PURPOSE
from agent.cli.vocabulary import WORDS
from agent.cli.words import EXIT_CODES, FILES, GENERAL, GROUPS, OUTPUT, Option, Word


def show(_: argparse.Namespace) -> int:
    """``berth man``."""
    print(page(), end="")
    return OK


def page() -> str:
    """The whole page. It has no date, so that it changes only when the command does."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH BERTH 1 "" "berth {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"berth \\- {_text(PURPOSE[0].lower() + PURPOSE[1:].rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield ".B berth"
    yield r"\fIWORD\fR [\fIoptions\fR] ..."
    yield ".SH DESCRIPTION"
    yield from _paragraph(OUTPUT)
    for key, title in GROUPS:
        yield f'.SH "{title.upper()}"'
        for word in WORDS:
            if word.group == key:
                yield from _word(word)
    yield ".SH OPTIONS"
    yield "Most words have these, too; berth help WORD says which."
    for option in GENERAL:
        yield from _option(option)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from (".TP", f".B {code}", _text(meaning[0].upper() + meaning[1:] + "."))
    yield ".SH FILES"
    for name, meaning in FILES:
        yield from (".TP", f".I {_text(name)}", _text(meaning))
    yield ".SH ENVIRONMENT"
    yield from (".TP", ".B NO_COLOR", "If it is set, nothing is coloured, unless --color=always is given.")
    yield ".SH SEE ALSO"
    yield ".BR docker (1),"
    yield ".BR nft (8)"


def _word(word: Word) -> Iterator[str]:
    yield f'.SS "berth {word.name}"'
    yield f".B {_text(word.usage)}"
    yield ".PP"
    yield from _paragraph(word.text)
    for option in word.options:
        if option not in GENERAL:
            yield from _option(option)
    for code, meaning in word.codes:
        yield from (".TP", f"exit status {code}", _text(meaning[0].upper() + meaning[1:] + "."))
    if word.examples:
        yield from (".PP", "Examples:", ".PP", ".nf", ".RS 4")
        for example in word.examples:
            yield f"$ {_literal(example.command)}".replace("$ ", "\\&$ ", 1)
            yield from (f"\\&{_literal(line)}" for line in example.output.splitlines())
        yield from (".RE", ".fi")
    if word.related:
        yield from (".PP", _text("See also: " + ", ".join(f"berth {name}" for name in word.related) + "."))


def _option(option: Option) -> Iterator[str]:
    yield ".TP"
    yield f".B {_text(option.shown)}"
    yield _text(option.text[0].upper() + option.text[1:] + ".")


def _paragraph(text: str) -> Iterator[str]:
    # one sentence in a line, as roff likes it
    yield from _text(text).replace(". ", ".\n").split("\n")


def _text(text: str) -> str:
    """As running text: no line begins with a control character, a hyphen stays one."""
    escaped = _literal(text)
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return escaped.replace("^", "\\(ha").replace("~", "\\(ti").replace("\t", "    ").replace("\u2026", "...")
