"""Which subnets a request allows its tasks to be in. Pure."""

import re

from agent.adapters.local.errors import InvalidParameter
from agent.adapters.local.records import Document
from agent.adapters.local.vpc.plan import VpcPlan

_MOST_SUBNETS, _MOST_GROUPS = 16, 5
_GROUP = re.compile(r"sg-[0-9a-zA-Z-]{1,64}")


def chosen_subnets(vpc: VpcPlan, configuration: Document | None) -> tuple[str, ...]:
    """The ids of the subnets, in the order given. Raise ``InvalidParameter``.

    Security groups are checked for their form only: any interface of the simulated VPC may reach any other.
    """
    known = ", ".join(subnet.subnet_id for subnet in vpc.subnets)
    wanted = (configuration or {}).get("awsvpcConfiguration")
    if wanted is None:
        raise InvalidParameter(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified: "
            f"expected networkConfiguration.awsvpcConfiguration.subnets, of {known}"
        )
    subnets = tuple(wanted["subnets"])
    if not 1 <= len(subnets) <= _MOST_SUBNETS:
        raise InvalidParameter(
            f"awsvpcConfiguration.subnets: {len(subnets)} given, expected 1 to {_MOST_SUBNETS}"
        )
    for subnet_id in subnets:
        if subnet_id not in {subnet.subnet_id for subnet in vpc.subnets}:
            raise InvalidParameter(
                f"Error retrieving subnet information for [{subnet_id}]: "
                f"The subnet ID '{subnet_id}' does not exist "
                f"(ErrorCode: InvalidSubnetID.NotFound); expected one of {known}"
            )
    groups = wanted.get("securityGroups", [])
    if len(groups) > _MOST_GROUPS:
        raise InvalidParameter(
            f"awsvpcConfiguration.securityGroups: {len(groups)} given, expected at most {_MOST_GROUPS}"
        )
    for group in groups:
        if not _GROUP.fullmatch(group):
            raise InvalidParameter(
                f"awsvpcConfiguration.securityGroups {group!r}: expected an id such as sg-0123abcd"
            )
    if wanted.get("assignPublicIp", "DISABLED") == "ENABLED":
        raise InvalidParameter("Assign public IP is not supported for this launch type.")
    return subnets
