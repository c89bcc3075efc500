"""Register, describe, list and deregister task definitions."""

from dataclasses import replace

from agent.adapters.local.definitions.registration import PRIVATE_REGISTRIES, registered
from agent.adapters.local.errors import ClientFault, InvalidParameter
from agent.adapters.local.operations.desk import Desk, checked_tags, wants_tags
from agent.adapters.local.operations.paging import paged
from agent.adapters.local.records import DefinitionRecord, Document


def register_task_definition(desk: Desk, wanted: Document) -> Document:
    """Make the family's next revision."""
    document = registered(
        wanted, desk.node.architecture, has_role_credentials=PRIVATE_REGISTRIES in desk.node.capabilities
    )
    tags = checked_tags(wanted.get("tags", []))
    family = wanted["family"]
    definition = DefinitionRecord(
        family, desk.ledger.newest_revision(family) + 1, document, registered_at=desk.ledger.now
    )
    desk.ledger.save_definition(definition)
    arn = desk.node.identity.definition_arn(family, definition.revision)
    desk.ledger.save_tags(arn, tags)
    return {"taskDefinition": desk.show_definition(definition), "tags": desk.show_tags(arn)}


def describe_task_definition(desk: Desk, wanted: Document) -> Document:
    """One revision, or the newest active one of a family."""
    definition = desk.definition(wanted["taskDefinition"])
    answer: Document = {"taskDefinition": desk.show_definition(definition)}
    if wants_tags(wanted):
        answer["tags"] = desk.show_tags(
            desk.node.identity.definition_arn(definition.family, definition.revision)
        )
    return answer


def deregister_task_definition(desk: Desk, wanted: Document) -> Document:
    """Take a revision out of use; tasks that run from it stay."""
    text = wanted["taskDefinition"]
    _, revision = desk.node.identity.family_and_revision(text)
    if revision is None:
        raise InvalidParameter(f"taskDefinition {text!r}: expected family:revision or a full ARN")
    definition = desk.definition(text)
    if not definition.is_active:
        raise ClientFault(
            "The specified task definition is inactive. Specify an active task definition and try again."
        )
    inactive = replace(definition, deregistered_at=desk.ledger.now)
    desk.ledger.save_definition(inactive)
    return {"taskDefinition": desk.show_definition(inactive)}


def list_task_definitions(desk: Desk, wanted: Document) -> Document:
    """ARNs of the revisions in one state, of all families or of one."""
    status = wanted.get("status", "ACTIVE")
    if status not in {"ACTIVE", "INACTIVE", "DELETE_IN_PROGRESS"}:
        raise InvalidParameter(f"status {status!r}: expected ACTIVE, INACTIVE or DELETE_IN_PROGRESS")
    sort = wanted.get("sort", "ASC")
    if sort not in {"ASC", "DESC"}:
        raise InvalidParameter(f"sort {sort!r}: expected ASC or DESC")
    names = (
        desk.ledger.definition_names(wanted.get("familyPrefix"), is_active=status == "ACTIVE")
        if status != "DELETE_IN_PROGRESS"  # definitions are never deleted here
        else ()
    )
    entries = [(name, desk.node.identity.definition_arn(*name)) for name in names]
    return paged("taskDefinitionArns", entries, wanted, is_descending=sort == "DESC")


def list_task_definition_families(desk: Desk, wanted: Document) -> Document:
    """Names of families, of those with an active revision unless asked otherwise."""
    status = wanted.get("status", "ACTIVE")
    if status not in {"ACTIVE", "INACTIVE", "ALL"}:
        raise InvalidParameter(f"status {status!r}: expected ACTIVE, INACTIVE or ALL")
    entries = [
        ((family, 0), family)
        for family, is_active in desk.ledger.families(wanted.get("familyPrefix", ""))
        if status == "ALL" or is_active == (status == "ACTIVE")
    ]
    return paged("families", entries, wanted)
