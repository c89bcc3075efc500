"""Checks of what filters and routes packets: nftables, iptables beside it, and switches of the kernel."""

from pathlib import Path

from agent.adapters.host.rules import FirewallPlan, ruleset
from agent.adapters.host.sysctls import route_localnet_problem
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import CannotFix, Fix, Verdict, bad, warn, well, worst


def netfilter(facts: Facts) -> Verdict:
    """Whether the kernel would take the agent's own rules, and nothing older is beside them."""
    # --check: the kernel looks at the rules and keeps none of them
    tried = facts.run(
        ["nft", "--check", "--file", "-"], ruleset(FirewallPlan(port=facts.settings.endpoint_port))
    )
    if tried is None:
        return bad("there is no program nft", "the agent does not start", "install the package nftables")
    if tried.code != 0:
        said = tried.err.strip().partition("\n")[0]
        return bad(
            f"nft refuses the agent's rules: {said or f'exit code {tried.code}'}",
            "the agent does not start: tasks could reach what they must not",
            "the kernel needs nf_tables (modprobe nf_tables), and this command CAP_NET_ADMIN",
        )
    legacy = [name for name in ("ip_tables_names", "ip6_tables_names") if facts.text(f"proc/net/{name}")]
    variant = facts.run(["iptables", "--version"], "")
    said = "" if variant is None else variant.out.strip()
    if legacy and "nf_tables" in said:
        return warn(
            f"nft works; rules of the old iptables are in the kernel too, and {said} does not show them",
            "a packet is asked by both: a drop in the hidden one is final, and hard to find",
            "see iptables-legacy-save; choose one for the machine (update-alternatives --config iptables)",
        )
    return well(f"the kernel takes the agent's rules; {said or 'there is no iptables'}")


def sysctls(facts: Facts) -> Verdict:
    """Whether the kernel's network switches are safe for tasks, and let them work."""
    root = facts.root / "proc/sys/net"
    return worst(
        [_localnet(root), _sources(root), _forwarding(facts, root), _ipv6(root)],
        "the switches are as they should be",
    )


def write_switch(path: Path, value: str) -> None:
    """Set a switch. Raise ``CannotFix``."""
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        raise CannotFix(f"cannot write {value} to {path}: {error.strerror}") from error


def _localnet(root: Path) -> Verdict:
    links = tuple(sorted(path.name for path in _folders(root / "ipv4/conf") if path.name != "all"))
    problem = route_localnet_problem(links, root=root / "ipv4/conf")
    if problem is None:
        return well("route_localnet is 0 everywhere")
    wrong = [
        name
        for name in ("all", *links)
        if _read(root / f"ipv4/conf/{name}/route_localnet") not in (None, "0")
    ]

    def apply() -> None:
        for name in wrong:
            write_switch(root / f"ipv4/conf/{name}/route_localnet", "0")

    names = [f"net.ipv4.conf.{name}.route_localnet" for name in wrong]
    return warn(
        f"{', '.join(f'{name} is 1' for name in names)}",
        "neighbours on these links can reach services on this machine's 127.0.0.1 (CVE-2020-8558); Amazon's "
        "agent needs that, berth does not",
        "look in /etc/sysctl.d for who sets it at boot",
        Fix(f"set {', '.join(names)} to 0", f"sysctl -w {' '.join(f'{name}=1' for name in names)}", apply),
    )


def _sources(root: Path) -> Verdict:
    value = _read(root / "ipv4/conf/all/rp_filter") or "0"
    words = {"0": "off (the agent's own rules drop forged sources of tasks)", "1": "strict", "2": "loose"}
    return well(f"rp_filter is {words.get(value, value)}")


def _forwarding(facts: Facts, root: Path) -> Verdict:
    path = root / "ipv4/ip_forward"
    if _read(path) != "0":
        return well("ip_forward is 1")
    if not facts.settings.local_routes:
        return well("ip_forward is 0; tasks have their own interfaces and do not need it")
    return bad(
        "net.ipv4.ip_forward is 0, and ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES is set",
        "tasks do not reach these networks: the machine passes nothing on",
        "set it in /etc/sysctl.d as well, so that it outlives a boot",
        Fix(
            "set net.ipv4.ip_forward to 1", "sysctl -w net.ipv4.ip_forward=0", lambda: write_switch(path, "1")
        ),
    )


def _ipv6(root: Path) -> Verdict:
    value = _read(root / "ipv6/conf/default/disable_ipv6")
    if value is None:
        return well("the kernel has no IPv6")
    if value == "0":
        return well("IPv6 is on")
    return warn(
        "net.ipv6.conf.default.disable_ipv6 is 1",
        "new network namespaces have no IPv6: a task whose interface has an IPv6 address cannot be connected",
        "fine if the subnets have IPv4 only",
    )


def _folders(path: Path) -> list[Path]:
    try:
        return [each for each in path.iterdir() if each.is_dir()]
    except FileNotFoundError:
        return []


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None
