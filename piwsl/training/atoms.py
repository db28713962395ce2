"""Energies of isolated atoms of a training run, from its configuration or from frames of one atom."""

from collections.abc import Mapping
from pathlib import Path

from piwsl.data.frames import FrameSet
from piwsl.data.reference_energies import (
    atom_energies,
    energies_by_number,
    isolated_atoms,
    read_reference_energies,
)
from piwsl.units import LabelUnits

SINGLE_ATOMS = "frames of one atom"  # source of reference energies


def given_energies(given: Mapping[str, float] | Path | None, units: LabelUnits | None) -> tuple[dict[int, float], str]:
    """Return the energies (eV) of elements that a configuration gives, by atomic number, and their source.

    Args:
        given: Energies (eV) by symbol, or a file with them; None if there are none.
        units: Units of a file that states none.
    """
    if isinstance(given, Path):
        return read_reference_energies(given, units), f"file {given.name}"
    return energies_by_number(given) if given is not None else {}, "configuration"


def known_atom_energies(
    frames: FrameSet, given: Mapping[str, float] | Path | None, units: LabelUnits | None
) -> tuple[dict[int, float], dict[int, str]]:
    """Return the energies (eV) of isolated atoms by atomic number, and the source of each.

    Energies that a configuration gives take precedence over those of frames of one atom.

    Args:
        frames: Frames of a source.
        given: Energies (eV) by symbol, or a file with them; None if there are none.
        units: Units of a file that states none.
    """
    of_frames = atom_energies(frames.select(isolated_atoms(frames)))
    energies, origin = given_energies(given, units)
    return {**of_frames, **energies}, {**dict.fromkeys(of_frames, SINGLE_ATOMS), **dict.fromkeys(energies, origin)}
