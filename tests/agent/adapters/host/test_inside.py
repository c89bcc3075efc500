import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.host.inside import Way, delete_link, links_in, refused_links, unmount, way_to

pytestmark = pytest.mark.integration

NAME = f"inside-{os.getpid()}"
METADATA = "169.254.169.254"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A namespace with a link, an address and a default route over it, as a task has them."""
    ip("netns", "add", NAME)
    try:
        ip("-n", NAME, "link", "add", "eth0", "type", "veth", "peer", "name", "other0")
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", "other0", "up"),
            ("link", "set", "eth0", "up", "alias", "a mark"),
            ("address", "add", "10.9.9.2/24", "dev", "eth0"),
            ("route", "add", "default", "via", "10.9.9.1"),
            ("-6", "address", "add", "fd00:9::2/64", "dev", "eth0", "nodad"),
            ("-6", "route", "add", "default", "via", "fd00:9::1"),
        ):
            ip("-n", NAME, *words)
        yield Path("/run/netns") / NAME
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=False, capture_output=True, timeout=10)


def test_the_way_of_a_packet_is_told_without_sending_one(namespace) -> None:
    assert way_to(METADATA, namespace) == Way("eth0")
    assert way_to("fd00:ec2::254", namespace) == Way("eth0")
    shown = subprocess.run(
        ["ip", "netns", "exec", NAME, "cat", "/proc/net/arp"], capture_output=True, text=True, check=True
    )
    assert "10.9.9.1" not in shown.stdout


def test_blackholes_and_other_refusals_are_no_way(namespace) -> None:
    for kind, why in (
        ("blackhole", "a blackhole"),
        ("unreachable", "unreachable"),
        ("prohibit", "prohibited"),
    ):
        for address, family in ((f"{METADATA}/32", "-4"), ("fd00:ec2::254/128", "-6")):
            ip("-n", NAME, family, "route", "replace", kind, address)
            found = way_to(address.partition("/")[0], namespace)
            assert (found.link, found.why) == ("", why), (kind, address)


def test_links_of_another_namespace_are_listed_and_this_thread_stays_where_it_is(namespace) -> None:
    before = Path("/proc/thread-self/ns/net").stat().st_ino
    found = {link.name: link for link in links_in(namespace)}
    assert set(found) == {"lo", "eth0", "other0"}
    assert (found["eth0"].alias, found["eth0"].kind) == ("a mark", "veth")
    assert Path("/proc/thread-self/ns/net").stat().st_ino == before
    assert "eth0" not in {link.name for link in links_in() if link.alias == "a mark"}


def test_a_link_goes_only_if_it_is_still_the_one_that_was_seen(namespace) -> None:
    link = next(each for each in links_in(namespace) if each.name == "eth0")
    assert delete_link(link.index, "eth0", "another mark", namespace) is False
    assert delete_link(link.index, "eth0", "a mark", namespace) is True
    assert delete_link(link.index, "eth0", "a mark", namespace) is False


def test_what_the_kernel_can_make_is_tried_where_nobody_sees_it() -> None:
    before = {link.name for link in links_in()}
    assert refused_links() == {}
    assert {link.name for link in links_in()} == before


def test_a_name_is_taken_away_and_the_file_stays(namespace) -> None:
    inode = namespace.stat().st_ino
    unmount(namespace)
    assert namespace.stat().st_ino != inode
    with pytest.raises(OSError, match="Invalid argument"):
        links_in(namespace)


def test_a_namespace_that_is_gone_is_told_and_leaves_no_thread(namespace) -> None:
    threads = threading.active_count()
    with pytest.raises(FileNotFoundError):
        links_in(namespace.with_name("absent"))
    assert threading.active_count() == threads
