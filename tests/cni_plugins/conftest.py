"""The plugins built once, and a private world per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_plugins.build import build
from tests.cni_plugins.cnilab import Lab, laboratory


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the real executables, built from this tree."""
    output = tmp_path_factory.mktemp("cni")
    build(output)
    return output


@pytest.fixture
def lab(plugins: Path, tmp_path: Path) -> Iterator[Lab]:
    """A private host namespace; ends with everything in it."""
    with laboratory(plugins, tmp_path) as made:
        yield made
