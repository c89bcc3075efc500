import ast

from agent.settings.variables import VARIABLES
from tests.architecture.source import modules, tree


def test_every_setting_that_is_honoured_is_read_by_somebody() -> None:
    read = {
        node.attr
        for path in [*modules("agent/daemon"), *modules("agent/settings")]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) in ("settings", "self", "parts.settings", "self.settings")
    }
    assert {variable.field for variable in VARIABLES} - read == set()
