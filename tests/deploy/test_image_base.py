"""The Debian base made on this machine: where its packages come from is what the machine's apt is told."""

from pathlib import Path

from deploy.image import base
from deploy.image.base import Source

LINES = """\
# a comment
deb http://mirror.test/debian bookworm main contrib # ours
deb [arch=any signed-by=/usr/share/keyrings/some.gpg] http://mirror.test/security bookworm-security main
deb-src http://mirror.test/debian bookworm main
deb http://broken.test
"""
PARAGRAPHS = """\
Types: deb deb-src
# a comment
URIs: http://mirror.test/debian http://second.test/debian
Suites: bookworm
 bookworm-updates
Components: main

Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
Enabled: no
"""


def test_lines_of_a_list_are_read_with_and_without_options() -> None:
    assert list(base.parse_lines(LINES)) == [
        Source("http://mirror.test/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.test/security", "bookworm-security", ("main",)),
    ]


def test_paragraphs_are_read_with_continued_lines_and_without_those_that_are_off() -> None:
    assert list(base.parse_paragraphs(PARAGRAPHS)) == [
        Source("http://mirror.test/debian", "bookworm", ("main",)),
        Source("http://mirror.test/debian", "bookworm-updates", ("main",)),
        Source("http://second.test/debian", "bookworm", ("main",)),
        Source("http://second.test/debian", "bookworm-updates", ("main",)),
    ]


def test_both_forms_are_found_where_apt_looks(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.test bookworm main\n")
    (tmp_path / "sources.list.d/a.list").write_text("deb http://two.test bookworm main\n")
    (tmp_path / "sources.list.d/b.sources").write_text(PARAGRAPHS)

    assert {one.address for one in base.read_sources(tmp_path)} == {
        *("http://one.test", "http://two.test", "http://mirror.test/debian", "http://second.test/debian"),
    }


def test_others_archives_are_not_taken_and_nothing_twice() -> None:
    known = [
        Source("http://mirror.test/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.test/debian", "bookworm", ("main",)),
        Source("http://docker.test", "bookworm", ("stable",)),
        Source("http://cloud.test", "cloud-bookworm", ("main",)),
    ]

    assert base.sources_for("bookworm", "bookworm", known) == (
        Source("http://mirror.test/debian", "bookworm", ("main",)),
    )


def test_another_release_of_debian_is_asked_for_ours() -> None:
    known = [Source("http://mirror.test/security", "trixie-security", ("main",))]

    (found,) = base.sources_for("bookworm", "trixie", known)

    assert found.as_line() == "deb http://mirror.test/security bookworm-security main"
