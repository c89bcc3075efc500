"""What the agent answers on the control channel, as the text of a frame (ecs-protocol 2.2 and 2.4). Pure."""

from collections.abc import Iterable

from agent.adapters.ecs.wire.envelope import envelope
from agent.adapters.ecs.wire.messages import RoleCredentials


def ack_request(message_id: str, cluster_arn: str, instance_arn: str) -> str:
    """The message was taken as a whole."""
    return envelope(
        "AckRequest", {"cluster": cluster_arn, "containerInstance": instance_arn, "messageId": message_id}
    )


def nack_request(message_id: str, cluster_arn: str, instance_arn: str, reason: str) -> str:
    """The message was refused. Only updates of the agent are ever answered so."""
    return envelope(
        "NackRequest",
        {
            "cluster": cluster_arn,
            "containerInstance": instance_arn,
            "messageId": message_id,
            "reason": reason,
        },
    )


def heartbeat_ack_request(message_id: str) -> str:
    """The heartbeat was heard."""
    return envelope("HeartbeatAckRequest", {"messageId": message_id})


def credentials_ack_request(message_id: str, credentials: RoleCredentials) -> str:
    """The credentials are in use. ``message_id``: of whichever message brought them."""
    return envelope(
        "IAMRoleCredentialsAckRequest",
        {
            "credentialsId": credentials.credentials_id,
            "expiration": credentials.expiration,
            "messageId": message_id,
        },
    )


def task_stop_verification(message_id: str, cluster_arn: str, task_arns: Iterable[str]) -> str:
    """Shall these tasks stop? They run here, and the manifest (``message_id``) does not have them."""
    return envelope(
        "TaskStopVerificationMessage",
        {
            "messageId": message_id,
            "stopCandidates": [
                {"taskArn": arn, "taskClusterArn": cluster_arn, "desiredStatus": "STOPPED"}
                for arn in task_arns
            ],
        },
    )
