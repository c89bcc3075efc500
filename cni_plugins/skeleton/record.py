"""Frozen records without the 18 ms that importing dataclasses costs a cold plugin."""

from __future__ import annotations

# Type checkers take this name for true; the real one would import typing (13 ms).
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Self, dataclass_transform

    @dataclass_transform(frozen_default=True)
    class Record:
        """A frozen value whose fields are the annotations of its class body, as with dataclasses."""

        def replaced(self, **changes: object) -> Self:
            """A copy with some fields changed."""

else:

    class Record:
        """A frozen value whose fields are the annotations of its class body, as with dataclasses."""

        _fields = ()

        def __init_subclass__(cls) -> None:
            cls._fields = (*cls._fields, *cls.__annotations__)

        def __init__(self, *values: object, **named: object) -> None:
            given = {**dict(zip(self._fields, values, strict=False)), **named}
            if len(given) != len(values) + len(named) or not given.keys() <= set(self._fields):
                raise TypeError(f"{type(self).__name__} has the fields {self._fields}, got {values} {named}")
            for field in self._fields:
                if field not in given and not hasattr(type(self), field):
                    raise TypeError(f"{type(self).__name__} needs {field}")
            self.__dict__.update(given)

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(f"{type(self).__name__}.{name} is frozen")

        def __eq__(self, other: object) -> bool:
            return type(self) is type(other) and self._values() == other._values()

        def __hash__(self) -> int:
            return hash(self._values())

        def __repr__(self) -> str:
            shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
            return f"{type(self).__name__}({shown})"

        def replaced(self, **changes: object) -> Self:
            """A copy with some fields changed."""
            return type(self)(**{**dict(zip(self._fields, self._values(), strict=True)), **changes})

        def _values(self) -> tuple[object, ...]:
            return tuple(getattr(self, field) for field in self._fields)
