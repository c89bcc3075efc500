"""Checks for another agent on the same machine: it and this one would fight over every task's network."""

from agent.adapters.host.listening import holders, listeners
from agent.adapters.host.rules import FAMILY, FirewallPlan
from agent.cli.dockerd import DockerSilent
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import NotApplicable, Verdict, bad, warn, well, worst

ENDPOINT = "169.254.170.2"
AMAZONS_PORTS = {51678: "its introspection", 51679: "its credentials endpoint"}
_STOLEN = f"requests for credentials at {ENDPOINT} never reach this agent"
_BOTH = "two agents on one machine take each other's interfaces and rules for leftovers"


def other_agents(facts: Facts) -> Verdict:
    """Whether another agent, or what one has left, is here too."""
    return worst(
        [*_processes(facts), *_units(facts), *_containers(facts), *_rules(facts), *_ports(facts)],
        "nothing of another agent is here",
    )


def _processes(facts: Facts) -> list[Verdict]:
    # the kernel keeps 15 characters of a name
    names = ("amazon-ecs-agen", "amazon-ecs-init")
    numbers = sorted(each.pid for each in facts.processes() if each.name in names)
    if not numbers:
        return []
    return [
        bad(
            f"Amazon's ECS agent runs (process {', '.join(map(str, numbers))})",
            _BOTH,
            "systemctl disable --now ecs, or docker rm -f ecs-agent if it was started by hand",
        )
    ]


def _units(facts: Facts) -> list[Verdict]:
    wants = facts.host_root / "etc/systemd/system/multi-user.target.wants/ecs.service"
    if not (wants.is_symlink() or wants.exists()):
        return []
    return [
        warn(
            "Amazon's ecs.service is enabled",
            "it starts its own agent at the next boot",
            "systemctl disable ecs",
        )
    ]


def _containers(facts: Facts) -> list[Verdict]:
    try:
        facts.answering_docker()
        containers = facts.socket().get("/containers/json", all="1")
    except (NotApplicable, DockerSilent):
        return [well("Docker does not answer, so containers of another agent could not be looked for")]
    names = [
        f"{(each.get('Names') or ['?'])[0].lstrip('/')} ({each.get('State')})"
        for each in containers
        if "amazon-ecs-agent" in str(each.get("Image"))
    ]
    if not names:
        return []
    is_running = any("(running)" in name for name in names)
    judge = bad if is_running else warn
    return [judge(f"containers of Amazon's agent: {', '.join(names)}", _BOTH, "docker rm -f ecs-agent")]


def _rules(facts: Facts) -> list[Verdict]:
    return _rules_of_iptables(facts) or _rules_of_nftables(facts)


def _rules_of_nftables(facts: Facts) -> list[Verdict]:
    """Where there is no iptables, such as in a container: nft shows what its newer kind has written."""
    done = facts.run(["nft", "list", "ruleset"], "")
    if done is None or done.code != 0:
        return []
    found, table = [], ""
    for line in done.out.splitlines():
        if line.startswith("table "):
            table = line.removeprefix("table ").removesuffix("{").strip()
        elif ENDPOINT in line and "dnat" in line.lower() and table != f"{FAMILY} {FirewallPlan().table}":
            found.append(f"table {table}: {line.strip()}")
    if not found:
        return []
    return [
        bad(
            f"address translation of another agent: {'; '.join(found)}",
            _STOLEN,
            "nft -a list ruleset shows the number of each rule; nft delete rule removes it",
        )
    ]


def _rules_of_iptables(facts: Facts) -> list[Verdict]:
    found = []
    for program in (["iptables-save", "-t", "nat"], ["iptables-legacy-save", "-t", "nat"]):
        if program[0].startswith("iptables-legacy") and not facts.text("proc/net/ip_tables_names"):
            continue  # asking would load the old tables into the kernel
        done = facts.run(program, "")
        if done is None or done.code != 0:
            continue
        found += [line for line in done.out.splitlines() if ENDPOINT in line and "-j" in line.split()]
    lines = list(dict.fromkeys(found))
    if not lines:
        return []
    undo = "; ".join(f"iptables -t nat {line.replace('-A ', '-D ', 1)}" for line in lines)
    return [
        bad(
            f"address translation of another agent: {'; '.join(lines)}",
            _STOLEN,
            f"remove it: {undo}",
        )
    ]


def _ports(facts: Facts) -> list[Verdict]:
    agent = facts.agent_pid()
    found = []
    for _, port, inode in listeners(facts.root / "proc/net"):
        if port not in AMAZONS_PORTS:
            continue
        pid = holders(facts.root / "proc", {inode}).get(inode)
        own = facts.chosen is not None and port == facts.settings.introspection_address.port
        if pid is None or pid == agent or own:
            continue  # the check ports speaks about our own
        found.append(
            warn(
                f"process {pid} listens on port {port}, where Amazon's agent has {AMAZONS_PORTS[port]}",
                _BOTH,
                "see what it is",
            )
        )
    return found
