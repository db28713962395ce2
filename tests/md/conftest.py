from collections.abc import Callable
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule

from tests.support.springs import springs_model


@pytest.fixture
def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    def make(atoms: Atoms, name: str = "springs.pt", **options) -> Path:
        return springs_model(tmp_path / name, atoms, **options)

    return make
