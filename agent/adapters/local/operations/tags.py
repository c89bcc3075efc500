"""Tags of tasks, definitions, clusters and this machine."""

from agent.adapters.local.errors import InvalidParameter, ResourceNotFound
from agent.adapters.local.operations.desk import Desk, checked_tags
from agent.adapters.local.records import Document


def tag_resource(desk: Desk, wanted: Document) -> Document:
    """Add tags, or give them new values."""
    arn = _existing(desk, wanted["resourceArn"])
    present = desk.ledger.tags(arn)
    added = {tag.get("key") for tag in wanted["tags"]}
    desk.ledger.save_tags(arn, checked_tags(wanted["tags"], present=len(present.keys() - added)))
    return {}


def untag_resource(desk: Desk, wanted: Document) -> Document:
    """Remove tags; fine if they are not there."""
    desk.ledger.remove_tags(_existing(desk, wanted["resourceArn"]), wanted["tagKeys"])
    return {}


def list_tags_for_resource(desk: Desk, wanted: Document) -> Document:
    """The tags of one resource."""
    return {"tags": desk.show_tags(_existing(desk, wanted["resourceArn"]))}


def _existing(desk: Desk, arn: str) -> str:
    """The ARN, if something has it. Raise ``InvalidParameter`` or ``ResourceNotFound``."""
    kind, _, name = arn.removeprefix(desk.node.identity.arn("")).partition("/")
    if not arn.startswith(desk.node.identity.arn("")) or not name:
        raise InvalidParameter(
            f"resourceArn {arn!r}: expected an ARN that starts with {desk.node.identity.arn('')}"
        )
    cluster, _, short_id = name.partition("/")
    match kind:
        case "cluster":
            exists = name in desk.ledger.clusters()
        case "task":
            exists = desk.ledger.task(cluster, short_id) is not None
        case "container-instance":
            instance = desk.instance(cluster)
            exists = instance is not None and instance.id == short_id
        case "task-definition":
            family, revision = desk.node.identity.family_and_revision(arn)
            exists = revision is not None and desk.ledger.definition(family, revision) is not None
        case _:
            exists = False
    if not exists:
        raise ResourceNotFound(f"resourceArn {arn!r}: there is no such resource")
    return arn
