"""The text that the introspection API shows under ``/license``."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_BESIDE_THE_SOURCE = Path(__file__).resolve().parents[2] / "LICENSE"


def license_text() -> str:
    """The licence as it was installed, or as it stands beside the source."""
    if _BESIDE_THE_SOURCE.is_file():
        return _BESIDE_THE_SOURCE.read_text(encoding="utf-8")
    try:
        installed = files("berth-agent") or []
    except PackageNotFoundError:
        installed = []
    for path in installed:
        if path.name == "LICENSE":
            return path.read_text(encoding="utf-8")
    return "Apache License 2.0: http://www.apache.org/licenses/LICENSE-2.0\n"
