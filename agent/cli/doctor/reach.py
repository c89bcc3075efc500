"""Checks of addresses: what the agent must reach, and where it must be able to listen."""

from agent.adapters.ecs.endpoint import endpoint_url
from agent.adapters.host.listening import holders, listeners
from agent.cli.doctor.asking import Reached
from agent.cli.doctor.channels import channel_urls
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import NotApplicable, Verdict, bad, well, worst
from agent.model.errors import BadSettings


def api(facts: Facts) -> Reached:
    """Ask the API of Amazon ECS for nothing in particular: any answer says that it can be reached."""
    return facts.once("api", lambda: _api(facts))


def _api(facts: Facts) -> Reached:
    settings = facts.settings
    if not settings.region and not settings.backend_host:
        raise NotApplicable(
            "the region is not set; only the running agent may ask the metadata service for it"
        )
    try:
        url = endpoint_url(settings.backend_host, settings.region)
    except BadSettings as error:
        raise NotApplicable(str(error)) from error
    return facts.look_at(url, settings.tls_verify)


def endpoints(facts: Facts) -> Verdict:
    """Whether the agent can reach its control plane."""
    if facts.settings.backend != "ecs":
        raise NotApplicable("the control plane is part of the agent (BERTH_BACKEND=local)")
    answer = api(facts)
    found = [_judged(answer)]
    if answer.problem is None:
        try:
            urls = channel_urls(answer.url, facts.settings, facts.environ)
        except OSError as error:
            return worst([*found, _refused(error)], "")
        found += [_judged(facts.look_at(url, facts.settings.tls_verify)) for url in urls]
        if not urls:
            found.append(well("no keys in the environment or in files, so its channels were not asked for"))
    return worst(found, "")


def ports(facts: Facts) -> Verdict:
    """Whether the agent's addresses are free, or its own."""
    settings = facts.settings
    wanted = {"BERTH_INTROSPECTION_ADDRESS": settings.introspection_address}
    if settings.backend == "local":
        wanted["BERTH_API_ADDRESS"] = settings.api_address
    agent = facts.agent_pid()
    taken = {(host, port): inode for host, port, inode in listeners(facts.root / "proc/net")}
    found = []
    for name, address in wanted.items():
        own = ("0.0.0.0", "::", address.host)
        inode = next((taken[host, address.port] for host in own if (host, address.port) in taken), None)
        if inode is None:
            found.append(well(f"{address} is free"))
            continue
        pid = holders(facts.root / "proc", {inode}).get(inode)
        if pid is not None and pid == agent:
            found.append(well(f"{address} is the agent's (process {pid})"))
        else:
            found.append(
                bad(
                    f"{address} is taken by {_who(facts, pid)}",
                    "the agent does not start",
                    f"end that program, or choose another {name}",
                )
            )
    return worst(found, "")


def _judged(answer: Reached) -> Verdict:
    through = f" through the proxy {_without_login(answer.proxy)}" if answer.proxy else ""
    if answer.problem is None:
        return well(f"{answer.url} answers{through}")
    return bad(
        f"{answer.url}{through}: {answer.problem}",
        "this machine gets no new tasks, and what happens to its own is told later",
        "look at routes, security groups and name servers; behind a proxy set HTTPS_PROXY and NO_PROXY",
    )


def _refused(error: OSError) -> Verdict:
    return bad(
        f"DiscoverPollEndpoint: {error}",
        "the agent is not told where its channel is",
        "look at the keys of this machine, and at what its role may do",
    )


def _without_login(proxy: str) -> str:
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest.rpartition("@")[2]


def _who(facts: Facts, pid: int | None) -> str:
    if pid is None:
        return "a process that only root may see"
    name = next((process.name for process in facts.processes() if process.pid == pid), "?")
    return f"{name} (process {pid})"
