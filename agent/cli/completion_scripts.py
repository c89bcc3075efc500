"""The completion scripts for bash, zsh and fish, written from the words of the command."""

from agent.cli.vocabulary import WORDS
from agent.cli.words import Option, Word

_ASKED = ("task", "container", "cluster", "family")
"""What only the agent knows."""


def bash() -> str:
    """For bash 4 and newer; needs nothing of the package bash-completion."""
    values, flags, given = [], [], []
    for word in WORDS:
        for option in _options(word):
            if option.metavar:
                names = "|".join(f"'{word.name} {name}'" for name in option.names)
                values.append(f"        {names}) {_bash_value(option)}; return ;;")
        flags.append(f"        {word.name}) options='{' '.join(_flags(word))}' ;;")
        if positional := _positional(word):
            given.append(f"        {word.name}) {_bash_given(positional)} ;;")
    first = [*(word.name for word in WORDS), "--help", "--version"]
    parts = {"WORDS": [" ".join(first)], "VALUES": values, "FLAGS": flags, "GIVEN": given}
    return _filled(_BASH, parts)


def zsh() -> str:
    """For zsh with its completion system; as a file ``_berth`` in ``fpath``, or by eval."""
    cases = []
    for word in WORDS:
        specs = [_zsh_option(option) for option in _options(word)]
        specs.append("'(-h --help)'{-h,--help}'[this text]'")
        given = [option for option in word.options if option.is_positional]
        for number, option in enumerate(given, start=1):
            place = "*" if option.takes in ("many", "any") else str(number)
            specs.append(f"'{place}:{option.flags}:{_zsh_action(option, given=True)}'")
        cases += [f"        {word.name}) _arguments -s \\"]
        cases += [f"            {spec} \\" for spec in specs[:-1]] + [f"            {specs[-1]} ;;"]
    described = [f"        '{word.name}:{_zsh_text(word.summary)}'" for word in WORDS]
    return _filled(_ZSH, {"DESCRIBED": described, "CASES": cases})


def fish() -> str:
    """For fish 3 and newer."""
    lines = [_FISH]
    for word in WORDS:
        summary = _quoted(word.summary)
        lines.append(f"complete -c berth -n __fish_use_subcommand -a {word.name} -d {summary}")
    for word in WORDS:
        begin = f"complete -c berth -n '__fish_seen_subcommand_from {word.name}'"
        for option in (*_options(word), Option("-h --help", "this text")):
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
            lines.append(f"{begin} {names}{_fish_value(option)} -d {_quoted(option.text)}")
        if positional := _positional(word):
            lines.append(f"{begin}{_fish_given(positional)}")
    return "\n".join([*lines, ""])


def _options(word: Word) -> list[Option]:
    return [option for option in word.options if not option.is_positional]


def _positional(word: Word) -> Option | None:
    return next((option for option in word.options if option.is_positional), None)


def _flags(word: Word) -> list[str]:
    return [name for option in _options(word) for name in option.names] + ["-h", "--help"]


def _choices(option: Option) -> str:
    if option.completes == "word":
        return " ".join(word.name for word in WORDS)
    if option.completes == "check":
        # imported here: only who makes a script needs the names of the checks
        from agent.cli.doctor.listing import CHECKS  # noqa: PLC0415

        return " ".join(check.name for check in CHECKS)
    return " ".join(option.choices)


def _bash_value(option: Option) -> str:
    if option.completes in _ASKED:
        return f"_berth_ask {option.completes}"
    if option.completes == "file":
        return "_berth_files"
    return f"_berth_offer '{_choices(option)}'"


def _bash_given(option: Option) -> str:
    return "_berth_ask given" if option.completes in _ASKED else _bash_value(option)


def _zsh_option(option: Option) -> str:
    text = _zsh_text(option.text)
    value = f":{option.metavar}:{_zsh_action(option)}" if option.metavar else ""
    many = "*" if option.takes == "any" else ""
    names = [f"{name}=" if option.metavar and name.startswith("--") else name for name in option.names]
    if len(names) == 1:
        return f"'{many}{names[0]}[{text}]{value}'"
    return f"'({' '.join(option.names)})'{{{','.join(names)}}}'[{text}]{value}'"


def _zsh_action(option: Option, *, given: bool = False) -> str:
    if option.completes in _ASKED:
        return f"_berth_ask {'given' if given else option.completes}"
    if option.completes == "file":
        return "_files"
    return f"({_choices(option)})" if _choices(option) else " "


def _zsh_text(text: str) -> str:
    for letter in "[]:":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("'", "'\\''")


def _fish_value(option: Option) -> str:
    if not option.metavar:
        return ""
    if option.completes in _ASKED:
        return f" -x -a '(__berth_ask {option.completes})'"
    if option.completes == "file":
        return " -r -F"
    return f" -x -a '{_choices(option)}'" if _choices(option) else " -x"


def _fish_given(option: Option) -> str:
    if option.completes in _ASKED:
        return " -a '(__berth_ask given)'"
    return " -F" if option.completes == "file" else f" -a '{_choices(option)}'"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _filled(template: str, parts: dict[str, list[str]]) -> str:
    for name, lines in parts.items():
        template = template.replace(f"@{name}@", "\n".join(lines))
    return template


_BASH = """\
# bash completion for berth; made by: berth completion bash
_berth_offer() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_berth_files() {
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    compopt -o filenames 2>/dev/null
}
_berth_ask() {
    local typed=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
    _berth_offer "$("${COMP_WORDS[0]}" __complete "$1" "${typed[@]}" 2>/dev/null | cut -f 1)"
}
_berth() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} word=${COMP_WORDS[1]} options=
    COMPREPLY=()
    # bash takes --color=always for three words
    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
    if (( COMP_CWORD == 1 )); then _berth_offer '@WORDS@'; return; fi
    case "$word $prev" in
@VALUES@
    esac
    case $word in
@FLAGS@
    esac
    if [[ $cur == -* ]]; then _berth_offer "$options"; return; fi
    case $word in
@GIVEN@
    esac
}
complete -F _berth berth
"""

_ZSH = """\
#compdef berth
# zsh completion for berth; made by: berth completion zsh
_berth_ask() {
    local -a found
    local line
    for line in ${(f)"$($_berth_command __complete $1 ${words[1,CURRENT-1]} 2>/dev/null)"}; do
        found+=("${${line//:/\\\\:}/$'\\t'/:}")
    done
    _describe -t $1 $1 found
}
_berth() {
    local _berth_command=$words[1]
    local -a all=(
@DESCRIBED@
    )
    if (( CURRENT == 2 )); then _describe -t words word all; return; fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
@CASES@
    esac
}
if [[ $funcstack[1] == _berth ]]; then _berth "$@"; else compdef _berth berth; fi
"""

_FISH = """\
# fish completion for berth; made by: berth completion fish
function __berth_ask
    set -l typed (commandline -opc)
    $typed[1] __complete $argv[1] $typed[2..-1] 2>/dev/null
end
complete -c berth -f
complete -c berth -n __fish_use_subcommand -l version -d 'the version of this command'
complete -c berth -n __fish_use_subcommand -s h -l help -d 'what there is'"""
