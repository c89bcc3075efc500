"""Whether the time is right: by the kernel's own opinion and, for a cluster, by the clock of Amazon ECS."""

from email.utils import parsedate_to_datetime

from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import Verdict, bad, warn, well, worst
from agent.cli.doctor.reach import api

TOLERATED = 240.0
"""Seconds. AWS takes signatures that are up to five minutes old."""

NOTICED = 5.0


def time_skew(facts: Facts) -> Verdict:
    """Whether this machine's clock is right."""
    return worst([_synchronised(facts), *_against_amazon(facts)], "")


def _synchronised(facts: Facts) -> Verdict:
    known = facts.is_synchronised()
    if known is None:
        return well("the kernel does not say whether its clock is kept right")
    if known:
        return well("the clock is synchronised")
    return warn(
        "nobody keeps the clock right, says the kernel (adjtimex: unsynchronised)",
        "it drifts; from five minutes on no signature is accepted: tasks get neither images nor credentials",
        "run chrony or systemd-timesyncd (timedatectl set-ntp true), unless the hypervisor does",
    )


def _against_amazon(facts: Facts) -> list[Verdict]:
    if facts.settings.backend != "ecs":
        return []
    answer = api(facts)
    if answer.date is None:
        return [well("Amazon ECS could not be asked for the time")]
    skew = facts.now() - parsedate_to_datetime(answer.date).timestamp()
    told = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {answer.url}"
    if abs(skew) > TOLERATED:
        return [
            bad(
                f"the clock is {told}",
                "AWS refuses everything that is signed on this machine",
                "set the clock, and keep it right with chrony",
            )
        ]
    if abs(skew) > NOTICED:
        return [
            warn(
                f"the clock is {told}",
                "still accepted; the times of tasks are wrong by so much",
                "run chrony",
            )
        ]
    return [well(f"as {answer.url} has it")]
