"""What can go wrong in the simulated VPC, ordered by what the caller does about it."""


class VpcError(Exception):
    """Anything the simulated VPC refuses or cannot do. The text is written for the operator."""


class BadVpcPlan(VpcError):
    """The plan contradicts itself.

    ``problems`` lists all of them; each names the field, the value and what was expected.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("the VPC plan is not usable: " + "; ".join(problems))


class SubnetExhausted(VpcError):
    """The subnet has no free address. Becomes a placement failure (``RESOURCE:ENI``) in the backend."""

    def __init__(self, subnet_id: str, cidr: str) -> None:
        self.subnet_id = subnet_id
        self.cidr = cidr
        super().__init__(f"subnet {subnet_id} ({cidr}) has no free address left")


class CidrInUse(VpcError):
    """The machine already routes part of the VPC's range somewhere else."""


class NameTaken(VpcError):
    """A namespace or link of the wanted name exists and was not made by this VPC; it is left alone."""


class InterfaceConflict(VpcError):
    """An interface exists with other properties than asked for, or its address belongs to another."""


class KernelRefused(VpcError):
    """The kernel, or the ``nft`` program, refused a request. ``errno`` is None when there was none."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        self.errno = errno
        super().__init__(message)
