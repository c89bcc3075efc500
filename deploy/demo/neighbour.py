"""Another host of the simulated VPC, from which the demonstration fetches what the tasks serve."""

from agent.adapters.local.vpc.addresses import mac_address
from agent.adapters.local.vpc.plan import InterfacePlan, VpcPlan, aws_id, default_plan
from agent.adapters.local.vpc.vpc import SimulatedVpc
from deploy.demo.stage import BIN, parsed

NAME = "visitor"
NAMESPACE = f"berth-vpc-{NAME}"


async def make() -> None:
    """Let the host join the VPC, at the last usable address of the last subnet."""
    vpc = SimulatedVpc(_plan(), namespace=_settings()["BERTH_VPC_NAMESPACE"])
    try:
        await vpc.ensure()  # adopts what the agent has made
        await vpc.ensure_host(NAME, _interface(_plan()))
    finally:
        await vpc.aclose()


async def remove() -> None:
    """Take the whole simulated VPC away, this host included."""
    vpc = SimulatedVpc(_plan(), namespace=_settings()["BERTH_VPC_NAMESPACE"])
    try:
        await vpc.remove_host(NAME)
        await vpc.destroy()
    finally:
        await vpc.aclose()


def enter(*command: str) -> tuple[str, ...]:
    """The command (an applet of busybox) as that host would run it."""
    return ("nsenter", f"--net=/run/netns/{NAMESPACE}", "busybox", *command)


def _settings() -> dict[str, str]:
    described = parsed(str(BIN / "berth"), "config", "--offline", "--json")["settings"]
    return {each["name"]: each["value"] for each in described}


def _plan() -> VpcPlan:
    settings = _settings()
    return default_plan(
        settings["AWS_DEFAULT_REGION"],
        seed=settings["BERTH_ACCOUNT_ID"],
        ipv4_cidr=settings["BERTH_VPC_CIDR"],
    )


def _interface(plan: VpcPlan) -> InterfacePlan:
    subnet = plan.subnets[-1]
    eni = aws_id("eni", f"demo/{NAME}")
    return InterfacePlan(
        eni_id=eni,
        subnet_id=subnet.subnet_id,
        mac_address=mac_address(eni),
        ipv4_address=str(subnet.ipv4_network[-2]),
    )
