"""Runs inside a sandbox: sends forged frames from a raw socket and prints what comes back as JSON.

argv: interface, kind (syn | udp | arp), own MAC or the victim's, victim IP, target IP, target MAC, port.
"""

import json
import socket
import struct
import sys
import time


def main() -> None:
    interface, kind, source_mac, victim, target, target_mac, port = sys.argv[1:]
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    raw.bind((interface, 0))
    source, destination = (
        bytes.fromhex(source_mac.replace(":", "")),
        bytes.fromhex(target_mac.replace(":", "")),
    )
    if kind == "arp":
        frame = arp(source, victim)
    else:
        frame = destination + source + b"\x08\x00" + packet(kind, victim, target, int(port))
    for _ in range(5):
        raw.send(frame)
    answers = []
    raw.settimeout(0.1)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        try:
            data, address = raw.recvfrom(2000)
        except TimeoutError:
            continue
        if address[2] != socket.PACKET_OUTGOING and data[12:14] == b"\x08\x00" and not data[0] & 1:
            answers.append(data.hex())
    print(json.dumps(answers))


def arp(mac: bytes, address: str) -> bytes:
    """A gratuitous reply: this MAC has that address."""
    ip = socket.inet_aton(address)
    return (
        b"\xff" * 6
        + mac
        + b"\x08\x06"
        + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
        + mac
        + ip
        + b"\xff" * 6
        + ip
    )


def packet(kind: str, source: str, target: str, port: int) -> bytes:
    src, dst = socket.inet_aton(source), socket.inet_aton(target)
    if kind == "syn":
        body = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
        total = checksum(src + dst + struct.pack("!BBH", 0, 6, len(body)) + body)
        body, protocol = body[:16] + struct.pack("!H", total) + body[18:], 6
    else:
        body, protocol = struct.pack("!HHHH", 40000, port, 12, 0) + b"evil", 17
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, src, dst)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


main()
