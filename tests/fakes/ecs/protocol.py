"""The shapes of everything that an agent may send: API requests (ecs-protocol 1), ACS (2.4) and TCS (3)."""

from tests.fakes.ecs.shapes import Flag, ListOf, Number, Record, Text, record

_ARN = r"arn:aws[a-z-]*:ecs:[a-z0-9-]+:\d{12}:"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

CLUSTER = Text(may_be_empty=False)
CLUSTER_ARN = Text(pattern=_ARN + r"cluster/[\w-]+")
INSTANCE_ARN = Text(pattern=_ARN + r"container-instance/[\w-]+/[0-9a-f]{32}")
TASK_ARN = Text(pattern=_ARN + r"task/[\w-]+/[0-9a-f]{32}")
ATTACHMENT_ARN = Text(pattern=_ARN + r"attachment/[\w-]+")
NAME = Text(longest=255, may_be_empty=False)
UUID = Text(pattern=_UUID)
REASON = Text(longest=1024)
#: Epoch seconds (1.1). Milliseconds would be a thousand times as much.
TIME = Number(least=1_000_000_000)

# -- API requests ------------------------------------------------------------------------------

_ATTRIBUTE = record(
    "name",
    name=Text(longest=128, pattern=r"[A-Za-z0-9_./\\-]+"),
    value=Text(longest=128, pattern=r"(?! )[A-Za-z0-9_./\\@: -]*(?<! )"),
)
_RESOURCE = record(
    "name type",
    name=Text(one_of=("CPU", "MEMORY", "PORTS", "PORTS_UDP")),
    type=Text(one_of=("INTEGER", "STRINGSET")),
    integerValue=Number(is_whole=True, least=0),
    stringSetValue=ListOf(Text(pattern=r"\d{1,5}"), longest=100),
)
_ATTACHMENT = record("*", attachmentArn=ATTACHMENT_ARN, status=Text(one_of=("ATTACHED",)))
_BINDING = record(
    "bindIP protocol",
    bindIP=Text(),
    containerPort=Number(is_whole=True, least=0),
    hostPort=Number(is_whole=True, least=0),
    containerPortRange=Text(pattern=r"\d+-\d+"),
    hostPortRange=Text(pattern=r"\d+-\d+"),
    protocol=Text(one_of=("tcp", "udp")),
)
_STATUS = Text(one_of=("PENDING", "RUNNING", "STOPPED"))
_CONTAINER = record(
    "containerName status",
    containerName=NAME,
    runtimeId=Text(longest=255),
    status=_STATUS,
    reason=REASON,
    exitCode=Number(is_whole=True),
    imageDigest=Text(longest=255),
    networkBindings=ListOf(_BINDING, longest=100),
)
_AGENT = record(
    "containerName managedAgentName status",
    containerName=NAME,
    managedAgentName=Text(one_of=("ExecuteCommandAgent",)),
    status=_STATUS,
    reason=REASON,
)

REQUESTS: dict[str, Record] = {
    "CreateCluster": record("*", clusterName=CLUSTER),
    "RegisterContainerInstance": record(
        "cluster instanceIdentityDocument instanceIdentityDocumentSignature totalResources attributes clientToken",
        cluster=CLUSTER,
        containerInstanceArn=INSTANCE_ARN,
        instanceIdentityDocument=Text(),
        instanceIdentityDocumentSignature=Text(),
        totalResources=ListOf(_RESOURCE, longest=4, shortest=4),
        attributes=ListOf(_ATTRIBUTE, shortest=1),
        tags=ListOf(
            record("key", key=Text(longest=128, pattern=r"(?i:(?!aws:)).+"), value=Text(longest=256)),
            longest=50,
            shortest=1,
        ),
        platformDevices=ListOf(record("*", id=NAME, type=Text(one_of=("GPU",))), shortest=1),
        clientToken=UUID,
    ),
    "DiscoverPollEndpoint": record(
        "containerInstance cluster", containerInstance=INSTANCE_ARN, cluster=CLUSTER, zoneId=Text()
    ),
    "SubmitTaskStateChange": record(
        "cluster task",
        cluster=CLUSTER,
        task=TASK_ARN,
        status=_STATUS,
        reason=REASON,
        containers=ListOf(_CONTAINER),
        attachments=ListOf(_ATTACHMENT, shortest=1),
        managedAgents=ListOf(_AGENT),
        pullStartedAt=TIME,
        pullStoppedAt=TIME,
        executionStoppedAt=TIME,
    ),
    "SubmitAttachmentStateChanges": record("*", cluster=CLUSTER, attachments=ListOf(_ATTACHMENT, shortest=1)),
    "UpdateContainerInstancesState": record(
        "containerInstances status",
        cluster=CLUSTER,
        containerInstances=ListOf(INSTANCE_ARN, longest=10, shortest=1),
        status=Text(one_of=("ACTIVE", "DRAINING")),
    ),
    "ListTagsForResource": record("*", resourceArn=Text(pattern=_ARN + r".+")),
}

# -- what the agent says on ACS ----------------------------------------------------------------

_TIME_TEXT = Text(pattern=r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

ACS_MESSAGES: dict[str, Record] = {
    "AckRequest": record("*", cluster=CLUSTER_ARN, containerInstance=INSTANCE_ARN, messageId=NAME),
    "NackRequest": record(
        "*",
        cluster=CLUSTER_ARN,
        containerInstance=INSTANCE_ARN,
        messageId=NAME,
        reason=Text(may_be_empty=False),
    ),
    "HeartbeatAckRequest": record("*", messageId=NAME),
    "IAMRoleCredentialsAckRequest": record("*", messageId=NAME, credentialsId=NAME, expiration=_TIME_TEXT),
    "TaskStopVerificationMessage": record(
        "*",
        messageId=NAME,
        stopCandidates=ListOf(
            record(
                "*", taskArn=TASK_ARN, taskClusterArn=CLUSTER_ARN, desiredStatus=Text(one_of=("STOPPED",))
            ),
            shortest=1,
        ),
    ),
}

# -- what the agent says on TCS ----------------------------------------------------------------

_COUNT = Number(is_whole=True, least=0)
_GAUGE = record("*", min=Number(), max=Number(), sum=Number(), sampleCount=_COUNT)
_LONG = record(
    "*", min=_COUNT, max=_COUNT, sum=_COUNT, sampleCount=_COUNT,
    overflowMin=_COUNT, overflowMax=_COUNT, overflowSum=_COUNT,
)  # fmt: skip
_NETWORK = record(
    "rxBytes rxDropped rxErrors rxPackets txBytes txDropped txErrors txPackets",
    rxBytes=_LONG, rxDropped=_LONG, rxErrors=_LONG, rxPackets=_LONG,
    txBytes=_LONG, txDropped=_LONG, txErrors=_LONG, txPackets=_LONG,
    rxBytesPerSecond=_GAUGE, txBytesPerSecond=_GAUGE,
)  # fmt: skip
_CONTAINER_METRIC = record(
    "containerName",
    containerArn=Text(),
    containerName=NAME,
    cpuStatsSet=_GAUGE,
    memoryStatsSet=_GAUGE,
    networkStatsSet=_NETWORK,
    storageStatsSet=record("*", readSizeBytes=_LONG, writeSizeBytes=_LONG),
    restartStatsSet=record("*", restartCount=_COUNT),
)
_VOLUME_METRIC = record("volumeId", volumeId=NAME, volumeName=NAME, utilized=_GAUGE, size=_GAUGE)
_TASK = {
    "clusterArn": Text(),
    "taskArn": TASK_ARN,
    "taskDefinitionFamily": NAME,
    "taskDefinitionVersion": NAME,
}
_TASK_NEEDED = frozenset(_TASK) - {"clusterArn"}
_TASKS_A_MESSAGE = 10

TCS_MESSAGES: dict[str, Record] = {
    "PublishMetricsRequest": record(
        "metadata timestamp",
        metadata=record(
            "*", cluster=CLUSTER, containerInstance=INSTANCE_ARN, idle=Flag(), fin=Flag(), messageId=UUID
        ),
        timestamp=TIME,
        taskMetrics=ListOf(
            Record(
                {
                    **_TASK,
                    "containerMetrics": ListOf(_CONTAINER_METRIC),
                    "volumeMetrics": ListOf(_VOLUME_METRIC),
                },
                _TASK_NEEDED | {"containerMetrics"},
            ),
            longest=_TASKS_A_MESSAGE,
        ),
    ),
    "PublishHealthRequest": record(
        "*",
        metadata=record("*", cluster=CLUSTER, containerInstance=INSTANCE_ARN, fin=Flag(), messageId=UUID),
        timestamp=TIME,
        tasks=ListOf(
            Record(
                {
                    **_TASK,
                    "containers": ListOf(
                        record(
                            "containerName healthStatus statusSince",
                            containerName=NAME,
                            healthStatus=Text(one_of=("HEALTHY", "UNHEALTHY", "UNKNOWN")),
                            statusSince=TIME,
                            statusMessage=Text(longest=1024),
                        ),
                        shortest=1,
                    ),
                },
                _TASK_NEEDED | {"containers"},
            ),
            longest=_TASKS_A_MESSAGE,
            shortest=1,
        ),
    ),
    "PublishInstanceStatusRequest": record(
        "*",
        metadata=record("*", cluster=CLUSTER, containerInstance=INSTANCE_ARN, requestId=UUID),
        timestamp=TIME,
        statuses=ListOf(
            record(
                "type status lastStatusChange lastUpdated",
                type=Text(one_of=("ContainerRuntime", "Agent", "EBSDaemon", "ACCELERATED_COMPUTE")),
                status=Text(one_of=("OK", "IMPAIRED", "INSUFFICIENT_DATA", "INITIALIZING")),
                statusReason=Text(),
                lastStatusChange=TIME,
                lastUpdated=TIME,
            ),
            shortest=1,
        ),
    ),
}

TCS_ACKS = {
    "PublishMetricsRequest": "AckPublishMetric",
    "PublishHealthRequest": "AckPublishHealth",
    "PublishInstanceStatusRequest": "AckPublishInstanceStatus",
}

# -- the queries of the two handshakes ---------------------------------------------------------

_HASH = Text(pattern=r"[0-9a-f]{8}")
ACS_QUERY = record(
    "agentHash agentVersion clusterArn containerInstanceArn protocolVersion sendCredentials seqNum",
    agentHash=_HASH,
    agentVersion=Text(may_be_empty=False),
    clusterArn=CLUSTER,
    containerInstanceArn=INSTANCE_ARN,
    dockerVersion=Text(pattern=r"DockerVersion: \S+|containerd"),
    protocolVersion=Text(one_of=("2",)),
    sendCredentials=Text(one_of=("true", "false")),
    seqNum=Text(one_of=("1",)),
)
TCS_QUERY = record(
    "agentHash agentVersion cluster containerInstance",
    agentHash=_HASH,
    agentVersion=Text(may_be_empty=False),
    cluster=CLUSTER,
    containerInstance=INSTANCE_ARN,
    dockerVersion=Text(pattern=r"(?!DockerVersion)\S+"),
)
