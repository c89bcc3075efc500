"""The tree of errors, ordered by what the lifecycle does about them, not by where they came from."""

from typing import ClassVar


class AgentError(Exception):
    """Everything that the agent itself raises."""


class StepError(AgentError):
    """A step did not reach its status. ``name`` is the stable word that customers match on."""

    name: ClassVar[str] = "StepError"

    @property
    def detail(self) -> str:
        """What happened, written for the customer."""
        return str(self)


class CannotPullImage(StepError):
    """The registry refused, the image does not exist, or the pull broke off."""

    name = "CannotPullContainerError"


class CannotPullEcrImage(CannotPullImage):
    """Amazon ECR gives no login for the image. Nothing was pulled."""

    name = "CannotPullECRContainerError"


class CannotPullPrivateImage(CannotPullImage):
    """There is no login to the image's private registry. Nothing was pulled."""

    name = "CannotPullContainerAuthError"


class CannotCreateContainer(StepError):
    """The runtime refused the container's configuration."""

    name = "CannotCreateContainerError"


class CannotStartContainer(StepError):
    """The runtime could not start the container. It may have started all the same."""

    name = "CannotStartContainerError"


class CannotStopContainer(StepError):
    """The runtime could not stop the container; it is tried again, slower."""

    name = "CannotStopContainerError"


class CannotRemoveContainer(StepError):
    """The runtime could not remove the container; it is tried again, slower."""

    name = "CannotRemoveContainerError"


class CannotAttachNetwork(StepError):
    """A CNI plugin failed. The detail names the plugin and what it said."""

    name = "ContainerNetworkingError"


class CannotLimitResources(StepError):
    """The task's control group could not be made."""

    name = "CgroupError"


class CannotMakeVolume(StepError):
    """A volume of the task could not be made."""

    name = "CannotCreateVolumeError"


class CannotGetCredentials(StepError):
    """No credentials could be had for a role of the task."""

    name = "CannotGetCredentialsError"


class NotEnoughResources(StepError):
    """The task needs more CPU or memory than this machine has for all tasks together. Nothing was begun."""

    name = "ResourceInitializationError"


class ContainerVanished(StepError):
    """Somebody else removed the container."""

    name = "ContainerVanishedError"


class StepTimedOut(StepError):
    """The step did not end within its time limit."""

    name = "DockerTimeoutError"


class InternalStepError(StepError):
    """A bug of ours; the log has the trace."""

    name = "InternalError"


class PortUnavailable(AgentError):
    """Try again later; nothing is known about the outcome."""


class RuntimeUnavailable(PortUnavailable):
    """The container runtime does not answer."""


class BackendUnavailable(PortUnavailable):
    """The backend does not answer."""


class ReportRejected(AgentError):
    """The backend will never accept this report; it is dropped and logged."""


class CredentialsUnavailable(PortUnavailable):
    """Credentials of a known role cannot be had now; asking again may help.

    ``name`` is the stable word of the reason while, and if for good, it stays like that.
    """

    name: ClassVar[str] = CannotGetCredentials.name


class EcrLoginUnavailable(CredentialsUnavailable):
    """Amazon ECR cannot be asked for a login now, or the credentials to ask with are not there yet."""

    name = CannotPullEcrImage.name


class PrivateLoginUnavailable(CredentialsUnavailable):
    """The login to a private registry cannot be looked up now."""

    name = CannotPullPrivateImage.name


class UnknownRole(AgentError):
    """There is no such role, or it may not be assumed. The text says why."""


class CheckpointFailed(AgentError):
    """A task's state cannot be written. Fatal for the agent, not for the containers."""


class BadSettings(AgentError):
    """One or more settings are wrong. ``problems`` lists all of them at once."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CannotStart(AgentError):
    """The daemon cannot start: something it needs is missing or taken. The text says what to do.

    ``is_final``: restarting will not help (exit code 5); otherwise a supervisor may try again (exit code 1).
    """

    def __init__(self, problem: str, *, is_final: bool) -> None:
        super().__init__(problem)
        self.is_final = is_final


class StateTooNew(CannotStart):
    """A file of the state was written by a newer agent. It is left as it is; restarting does not help.

    ``file`` is the path, ``found`` its format, ``understood`` the newest format that this agent reads.
    ``directory`` is what can be moved away. ``more`` is a further way on, as a sentence.
    """

    def __init__(self, *, file: str, found: int, understood: int, directory: str, more: str = "") -> None:
        super().__init__(
            f"{file} has format {found}, and this agent understands formats up to {understood}: a newer "
            "agent wrote it. Nothing was changed. Start the newer agent again, or stop the tasks and move "
            f"{directory} away{'. ' + more if more else ''}",
            is_final=True,
        )
        self.file = file
        self.found = found
        self.understood = understood
