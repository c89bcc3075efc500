"""IP addresses and prefixes as small values; the ipaddress module would cost a cold plugin 7 ms."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from cni_plugins.skeleton.record import Record

IPV4 = int(AF_INET)
IPV6 = int(AF_INET6)
BITS = {IPV4: 32, IPV6: 128}


class Address(Record):
    """One IP address: `family` is IPV4 or IPV6, `number` its bits as an integer."""

    family: int
    number: int

    @property
    def packed(self) -> bytes:
        """Network byte order, 4 or 16 bytes."""
        return self.number.to_bytes(BITS[self.family] // 8, "big")

    @property
    def version(self) -> str:
        """The digit that CNI results before 1.0.0 carry."""
        return "4" if self.family == IPV4 else "6"

    @property
    def is_link_local(self) -> bool:
        """fe80::/10; never true for IPv4, where 169.254/16 is used like any other range here."""
        return self.family == IPV6 and self.number >> 118 == 0xFE80 >> 6

    def __str__(self) -> str:
        return inet_ntop(self.family, self.packed)

    def plus(self, offset: int) -> Address:
        """The address that many steps further."""
        return Address(self.family, self.number + offset)

    def host_prefix(self) -> Prefix:
        """The /32 or /128 that holds this address only."""
        return Prefix(self, BITS[self.family])


class Prefix(Record):
    """An address with a prefix length, as written: the host bits are kept."""

    address: Address
    length: int

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"

    @property
    def family(self) -> int:
        """IPV4 or IPV6."""
        return self.address.family

    @property
    def network(self) -> Address:
        """The lowest address."""
        host_bits = BITS[self.family] - self.length
        return Address(self.family, self.address.number >> host_bits << host_bits)

    @property
    def last(self) -> Address:
        """The highest address; for IPv4 the broadcast address."""
        return self.network.plus((1 << (BITS[self.family] - self.length)) - 1)

    def masked(self) -> Prefix:
        """The same prefix without host bits."""
        return Prefix(self.network, self.length)

    def holds(self, address: Address) -> bool:
        """Whether the address lies inside."""
        return address.family == self.family and self.network.number <= address.number <= self.last.number


def parse_address(text: object) -> Address | None:
    """The address that a text stands for, or None if it is none."""
    if not isinstance(text, str):
        return None
    family = IPV6 if ":" in text else IPV4
    try:
        return Address(family, int.from_bytes(inet_pton(family, text), "big"))
    except (OSError, ValueError):
        return None


def parse_prefix(text: object) -> Prefix | None:
    """The prefix that a text like 10.0.0.5/24 stands for, or None if it is none."""
    if not isinstance(text, str):
        return None
    head, slash, tail = text.partition("/")
    address = parse_address(head)
    if address is None or not slash or not tail.isascii() or not tail.isdigit():
        return None
    length = int(tail)
    return Prefix(address, length) if length <= BITS[address.family] else None


def parse_mac(text: object) -> bytes | None:
    """The six bytes of aa:bb:cc:dd:ee:ff in either case, or None."""
    if not isinstance(text, str):
        return None
    parts = text.split(":")
    if len(parts) != 6 or any(len(part) != 2 or not part.isalnum() for part in parts):  # noqa: PLR2004
        return None
    try:
        return bytes.fromhex("".join(parts))
    except ValueError:
        return None


def mac_text(mac: bytes) -> str:
    """Six bytes as aa:bb:cc:dd:ee:ff."""
    return mac.hex(":")
