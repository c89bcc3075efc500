"""Amazon ECS's own description of its API: requests are coerced and checked by it, answers can be.

Only the parts of botocore's model that the operations here need are kept: the whole is several times larger.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator

from agent.adapters.local.errors import ClientFault, InvalidParameter
from agent.adapters.local.records import Document

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LONGEST_REPORT = 4096


class Shapes:
    """The request shapes of some operations, and their answer shapes if asked for. Loading takes 50 ms."""

    def __init__(self, operations: Iterable[str], *, with_answers: bool = False) -> None:
        # A loader of our own: botocore's shared ones would keep the whole model in memory.
        model = Loader().load_service_model("ecs", "service-2")
        wanted = tuple(operations)
        service = ServiceModel(_reduced(model, wanted, with_answers=with_answers), "ecs")
        self.target_prefix: str = service.metadata["targetPrefix"]
        self._requests: dict[str, Shape] = {
            name: service.operation_model(name).input_shape for name in wanted
        }
        self._answers: dict[str, Shape] = (
            {name: service.operation_model(name).output_shape for name in wanted} if with_answers else {}
        )
        self._validator = ParamValidator()

    def request(self, operation: str, wanted: object) -> Document:
        """The request with its values in the shape's types. Raise ``InvalidParameter`` or ``ClientFault``."""
        shape = self._requests[operation]
        coerced = _coerced(wanted, shape)
        problems = self._validator.validate(coerced, shape)
        if problems.has_errors():
            # ECS answers ClientException to a malformed definition and InvalidParameterException elsewhere.
            fault = ClientFault if operation == "RegisterTaskDefinition" else InvalidParameter
            raise fault(problems.generate_report()[:_LONGEST_REPORT])
        return coerced if isinstance(coerced, dict) else {}

    def answer_problems(self, operation: str, answer: object) -> str:
        """What is wrong with an answer, or an empty text. Needs ``with_answers``."""
        report: str = self._validator.validate(answer, self._answers[operation]).generate_report()
        return report


def _coerced(value: object, shape: Any) -> object:
    """JSON as people write it: ``"512"`` where a number is meant, ``null`` where nothing is."""
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            members = shape.members
            return {
                key: _coerced(one, members[key]) if key in members else one
                for key, one in value.items()
                if one is not None
            }
        case "list" if isinstance(value, list):
            return [_coerced(one, shape.member) for one in value]
        case "map" if isinstance(value, dict):
            return {key: _coerced(one, shape.value) for key, one in value.items()}
        case "integer" | "long":
            return _whole_number(value)
        case "boolean" if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        case "string" if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        case _:
            return value


def _whole_number(value: object) -> object:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    # Python takes True for 1; the shape must not.
    return str(value) if isinstance(value, bool) else value


def _reduced(model: Mapping[str, Any], operations: tuple[str, ...], *, with_answers: bool) -> Document:
    shapes: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name in operations:
        operation = {key: value for key, value in model["operations"][name].items() if key != "documentation"}
        operation.pop("errors", None)
        ends = ("input", "output") if with_answers else ("input",)
        if not with_answers:
            operation.pop("output", None)
        kept[name] = operation
        for end in ends:
            _keep(operation[end]["shape"], model["shapes"], shapes)
    return {"metadata": dict(model["metadata"]), "operations": kept, "shapes": shapes}


def _keep(name: str, available: Mapping[str, Any], shapes: dict[str, Any]) -> None:
    if name in shapes:
        return
    shape = _without_documentation(available[name])
    shapes[name] = shape
    for reference in _references(shape):
        _keep(reference, available, shapes)


def _references(shape: Mapping[str, Any]) -> Iterator[str]:
    for member in shape.get("members", {}).values():
        yield member["shape"]
    for key in ("member", "key", "value"):
        if key in shape:
            yield shape[key]["shape"]


def _without_documentation(shape: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in shape.items() if key != "documentation"}
    if "members" in kept:
        kept["members"] = {
            name: {key: value for key, value in member.items() if key != "documentation"}
            for name, member in kept["members"].items()
        }
    return kept
