"""Exported files that state which structures their model has seen."""

from pathlib import Path

from ase import Atoms

from piwsl.data.domain import TrainingDomain
from piwsl.data.frames import Frame, FrameSet
from piwsl.export.exported_file import load_exported, save_exported


def with_domain(exported: Path, target: Path, *seen: Atoms) -> Path:
    """Write a copy of an exported file whose model was trained on these structures, and return its path."""
    potential = load_exported(exported)
    domain = TrainingDomain.of(FrameSet([Frame.from_atoms(atoms) for atoms in seen]), potential.cutoff)
    save_exported(potential.program, {**potential.info, "domain": domain.model_dump()}, target)
    return target
