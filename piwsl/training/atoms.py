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
from piwsl.training.config import TrainingConfig
from piwsl.units import LabelUnits

SINGLE_ATOMS = "frames of one atom"  # source of reference energies


def given_energies(
    given: Mapping[str, float] | Path | None, units: LabelUnits | None, cutoff: float
) -> tuple[dict[int, float], str]:
    """Return the energies (eV) of elements that a configuration gives, by atomic number, and their source.

    Args:
        given: Energies (eV) by symbol, or a file with them; None if there are none.
        units: Units of a file that states none.
        cutoff: Cutoff of the model, angstrom.
    """
    if isinstance(given, Path):
        return read_reference_energies(given, units, cutoff), f"file {given.name}"
    return energies_by_number(given) if given is not None else {}, "configuration"


def known_atom_energies(
    frames: FrameSet,
    given: Mapping[str, float] | Path | None,
    units: LabelUnits | None,
    config: TrainingConfig,
) -> tuple[dict[int, float], dict[int, str]]:
    """Return the energies (eV) of isolated atoms that a run uses, by atomic number, and the source of each.

    Energies that a configuration gives take precedence over those of frames of one atom. Fine-tuning uses the latter
    only for elements that the configuration lacks: its network contributes a part of the binding energy that fits the
    reference energies of the start file, and with those of isolated atoms, its energies would be wrong at the start.

    Args:
        frames: Frames of a source.
        given: Energies (eV) by symbol, or a file with them; None if there are none.
        units: Units of a file that states none.
        config: Configuration of the run, with its start file and the cutoff of the model.
    """
    cutoff = config.model.cutoff
    unused = config.start.init_from is not None and given is None
    of_frames = {} if unused else atom_energies(frames.select(isolated_atoms(frames, cutoff)))
    energies, origin = given_energies(given, units, cutoff)
    return {**of_frames, **energies}, {**dict.fromkeys(of_frames, SINGLE_ATOMS), **dict.fromkeys(energies, origin)}


def refit_words(config: TrainingConfig) -> str:
    """Return why a fine-tuned model does not use frames of one atom, and what to do, for use in a sentence."""
    if config.start.reference_energies == "keep":
        return "start.reference_energies: keep"
    return "fine-tuning refits them; set reference_energies to the file of these frames to use their energies"
