"""Notice when this host routes packets for 127.0.0.0/8: then neighbours can reach services on localhost."""

from pathlib import Path


def route_localnet_problem(
    interfaces: tuple[str, ...], *, root: Path = Path("/proc/sys/net/ipv4/conf")
) -> str | None:
    """What is wrong, in words for an operator, or None. Interfaces that do not exist are fine.

    With ``route_localnet`` a neighbour on the link can talk to the host's 127.0.0.1 (CVE-2020-8558). This
    agent does not need it, and never sets it.
    """
    wrong = [name for name in ("all", *interfaces) if _is_set(root / name / "route_localnet")]
    if not wrong:
        return None
    names = " ".join(f"net.ipv4.conf.{name}.route_localnet=0" for name in wrong)
    return (
        f"route_localnet is set on {', '.join(wrong)}: neighbours can reach services on 127.0.0.1 of this "
        f"host. Nothing here needs it; set it back with: sysctl -w {names}"
    )


def _is_set(file: Path) -> bool:
    try:
        return file.read_text().strip() != "0"
    except FileNotFoundError:
        return False
