"""A Debian base made on this machine, for where no registry is reachable.

The Debian packages that the image's build needs on top are fetched at the same time, so that the build
itself asks nobody. Both come from where this machine's own apt gets its packages.
"""

import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.image.errors import ImageError

RELEASE = "bookworm"
"""Debian 12. It is all that pins the packages of the base: within a release only repairs are made."""

BASE_TAG = "berth/debian:12"
IN_THE_BASE = ("ca-certificates", "nftables", "python3")
FOR_BUILDING = ("gcc", "libc6-dev", "python3-venv")
_LABEL = "berth.base"
_MARK = "/etc/berth-base"  # install.sh uses the fetched packages only on the base that has the same mark
_SUITES = ("", "-updates", "-security")
_LONGEST_SECONDS = 600
_NOT_UNPACKED = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*")
_KEPT = "/usr/share/doc/*/copyright"
_PREPARE = Path(__file__).resolve().parents[1] / "packages.sh"


@dataclass(frozen=True, slots=True)
class Source:
    """Where apt gets packages: one address, one suite."""

    address: str
    suite: str
    components: tuple[str, ...]

    def as_line(self) -> str:
        """The form of a sources.list."""
        return f"deb {self.address} {self.suite} {' '.join(self.components)}"


def make_base(folder: Path) -> str:
    """Make the base unless there is a current one, and the packages beside it; return its tag.

    ``folder`` keeps the archive and ``packages/``. Raise ``ImageError`` with the tool's last words.
    """
    fingerprint = _fingerprint()
    archive = folder / f"debian-{fingerprint}.tar"
    packages = folder / "packages"
    if not (archive.is_file() and (packages / "fetched-for").is_file()):
        _bootstrap(archive, packages, fingerprint)
    if _label_of(BASE_TAG) != fingerprint:
        changes = ("--change", f"LABEL {_LABEL}={fingerprint}", "--change", 'CMD ["sh"]')
        done = _run("docker", "import", *changes, str(archive), BASE_TAG)
        if done.returncode != 0:
            raise ImageError(f"Docker cannot import {archive}: {done.stderr.strip()}")
    return BASE_TAG


def sources_for(release: str, own_release: str, known: Iterable[Source]) -> tuple[Source, ...]:
    """Debian's own among the sources of this machine, turned to the wanted release; each once."""
    suites = {f"{own_release}{ending}": f"{release}{ending}" for ending in _SUITES}
    found = {
        Source(source.address, suites[source.suite], ("main",)): None
        for source in known
        if source.suite in suites and "main" in source.components
    }
    return tuple(found)


def read_sources(folder: Path = Path("/etc/apt")) -> Iterator[Source]:
    """What the machine's apt is told, in both of its ways to write it: lines, and paragraphs of fields."""
    for path in (folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))):
        if path.is_file():
            yield from parse_lines(path.read_text(encoding="utf-8"))
    for path in sorted(folder.glob("sources.list.d/*.sources")):
        yield from parse_paragraphs(path.read_text(encoding="utf-8"))


def parse_lines(text: str) -> Iterator[Source]:
    """``deb [options] ADDRESS SUITE COMPONENT...``, one a line."""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        rest = words[1:]
        if rest and rest[0].startswith("["):
            end = next((place for place, word in enumerate(rest) if word.endswith("]")), len(rest))
            rest = rest[end + 1 :]
        if len(rest) > 2:  # noqa: PLR2004 - address, suite, and at least one component
            yield Source(rest[0], rest[1], tuple(rest[2:]))


def parse_paragraphs(text: str) -> Iterator[Source]:
    """deb822: ``Types``, ``URIs``, ``Suites`` and ``Components``, each with several words."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in "\n".join(lines).split("\n\n"):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in paragraph.splitlines():
            if not line[:1].isspace():
                name, _, line = line.partition(":")  # noqa: PLW2901 - the rest of the same line
            fields.setdefault(name.lower(), []).extend(line.split())
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        for address in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield Source(address, suite, tuple(fields.get("components", [])))


def _bootstrap(archive: Path, packages: Path, fingerprint: str) -> None:
    own_release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    sources = sources_for(RELEASE, own_release, read_sources())
    if not sources:
        raise ImageError(
            "a Debian base can only be made on a Debian whose apt has Debian's own archive; "
            "elsewhere name an image that is there: --base TAG"
        )
    if os.geteuid() != 0:
        raise ImageError("making a Debian base needs root; or name an image that is there: --base TAG")
    prepared = _run("sh", str(_PREPARE), "mmdebstrap")
    if prepared.returncode != 0:
        raise ImageError(prepared.stderr.strip() or prepared.stdout.strip())
    packages.mkdir(parents=True, exist_ok=True)
    for old in (*packages.iterdir(), *archive.parent.glob("debian-*.tar*")):
        old.unlink()
    aside = archive.with_suffix(".tar.new")
    done = _run(
        *_command(aside, packages.resolve(), fingerprint),
        given="".join(f"{one.as_line()}\n" for one in sources),
    )
    if done.returncode != 0:
        raise ImageError(f"the Debian base cannot be made:\n{done.stderr.strip()[-2000:]}")
    (packages / "fetched-for").write_text(f"{fingerprint}\n", encoding="utf-8")
    aside.replace(archive)


def _command(archive: Path, packages: Path, fingerprint: str) -> Iterator[str]:
    apt = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --yes --no-install-recommends'
    yield from ("mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar")
    # The directories are merged beforehand: the package that does it later would bring all of Perl.
    yield "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    yield f"--include={','.join(('usr-is-merged', *IN_THE_BASE))}"
    yield from ('--aptopt=Acquire::Languages "none"', "--aptopt=Acquire::Retries 3")
    yield "--dpkgopt=force-unsafe-io"  # no sync after every file: a half-made base is thrown away
    yield from (f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_UNPACKED)
    yield f"--dpkgopt=path-include={_KEPT}"
    yield '--customize-hook=rm -f "$1"/var/cache/apt/archives/*.deb'  # what is in the base already
    yield f"--customize-hook={apt} --download-only install {' '.join(FOR_BUILDING)}"
    yield f'--customize-hook=echo {fingerprint} >"$1"{_MARK}'
    yield f'--customize-hook=cp "$1"/var/cache/apt/archives/*.deb {shlex.quote(str(packages))}'
    yield from (RELEASE, str(archive), "-")


def _fingerprint() -> str:
    """Changes when another base has to be made: for another architecture, or in another way."""
    way = (platform.machine(), *_command(Path("archive"), Path("packages"), ""))
    return hashlib.sha256("\n".join(way).encode()).hexdigest()[:12]


def _label_of(tag: str) -> str | None:
    shown = _run("docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{_LABEL}"}}}}', tag)
    return shown.stdout.strip() if shown.returncode == 0 else None


def _run(*command: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{command[0]} did not end within {_LONGEST_SECONDS} s") from error
    except FileNotFoundError as error:
        raise ImageError(f"there is no {command[0]} here; install it") from error
