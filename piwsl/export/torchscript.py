"""`piwsl export`: TorchScript files made from a trained file, verified before they are written."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import nn

from piwsl._version import __version__
from piwsl.data.files import sha256
from piwsl.data.frames import Frame
from piwsl.errors import ElementError, ExportError
from piwsl.export.exported import save_exported
from piwsl.export.forms import GeneralForm, OpenMMForm
from piwsl.export.trained import DTYPES, TrainedModel, load_trained
from piwsl.export.verify import Evaluate, Verification, eager_evaluator, verify
from piwsl.models.pairs import AllPairs
from piwsl.typing import FloatArray
from piwsl.units import KJ_PER_MOL, NANOMETER

# Dense blocks of all pairs beat edge lists up to about this size, and grow with its square.
LARGEST_DENSE_MOLECULE = 200


def export_general(model_path: Path, output: Path, dtype: str | None = None) -> Verification:
    """Write the general form: species, positions and optionally a cell, in eV and angstrom.

    Raises:
        ModelFileError: the trained file cannot be read.
        ExportError: the form disagrees with the eager model; nothing is written.
    """
    model = load_trained(model_path)
    dtype = dtype or model.dtype
    module = script(GeneralForm(model.potential(dtype=dtype), model.config.cutoff, DTYPES[dtype]))

    def evaluate(frame: Frame) -> tuple[float, FloatArray]:
        cell = torch.from_numpy(frame.cell) if any(frame.pbc) else None
        energy, forces = module(torch.from_numpy(frame.species), torch.from_numpy(frame.positions), cell)
        return float(energy), forces.numpy().astype(np.float64)

    frames = [frame for frame in model.check_frames if all(frame.pbc) or not any(frame.pbc)]
    result = _verify(model, evaluate, frames, dtype)
    units = {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
    save_exported(module, _info(model, model_path, "general", dtype, result, units), output)
    return result


def export_openmm(
    model_path: Path, species: Sequence[int], output: Path, dtype: str | None = None, frames: Sequence[Frame] = ()
) -> Verification:
    """Write the OpenMM form: positions in nm, kJ/mol, the species baked in.

    Args:
        model_path: trained file.
        species: atomic numbers of the molecule, in the order of the simulation.
        output: file to write.
        dtype: float type of the network; that of the trained file by default.
        frames: structures of this molecule to verify on, where the trained file holds none.

    Raises:
        ModelFileError: the trained file cannot be read.
        ElementError: a species the model does not know.
        ExportError: the molecule is too large for this form, or the form disagrees with the eager model.
    """
    model = load_trained(model_path)
    dtype = dtype or model.dtype
    species = [int(number) for number in species]
    check_elements(model, species)
    if len(species) > LARGEST_DENSE_MOLECULE:
        raise ExportError(
            f"the OpenMM form takes molecules of at most {LARGEST_DENSE_MOLECULE} atoms, this one has {len(species)}"
        )
    potential = model.potential(AllPairs(len(species)), dtype)
    module = script(OpenMMForm(potential, species, model.config.cutoff, DTYPES[dtype]))

    def evaluate(frame: Frame) -> tuple[float, FloatArray]:
        energy, forces = module(torch.from_numpy(frame.positions / NANOMETER))
        return float(energy) * KJ_PER_MOL, forces.numpy().astype(np.float64) * (KJ_PER_MOL / NANOMETER)

    same = [f for f in model.check_frames if f.species.tolist() == species and not any(f.pbc)]
    result = _verify(model, evaluate, [*same, *frames], dtype)
    units = {"energy": "kJ/mol", "length": "nm", "force": "kJ/mol/nm"}
    info = _info(model, model_path, "openmm", dtype, result, units)
    save_exported(module, {**info, "species": species}, output)
    return result


def check_elements(model: TrainedModel, species: Sequence[int]) -> None:
    """Refuse a structure with an element that the model never saw.

    Raises:
        ElementError: names the elements.
    """
    unknown = sorted(set(species) - set(model.elements))
    if unknown:
        names = ", ".join(chemical_symbols[z] for z in unknown)
        known = " ".join(chemical_symbols[z] for z in model.elements)
        raise ElementError(f"the model was not trained on {names}: it knows {known}")


def script(form: nn.Module) -> torch.jit.ScriptModule:
    """Compile a form to TorchScript."""
    module = torch.jit.script(form.eval())
    assert isinstance(module, torch.jit.ScriptModule)
    return module


def _verify(model: TrainedModel, form: Evaluate, frames: Sequence[Frame], dtype: str) -> Verification:
    eager = eager_evaluator(model.potential(dtype=dtype), model.config.cutoff, DTYPES[dtype])
    return verify(form, eager, frames, dtype)


def _info(
    model: TrainedModel, model_path: Path, form: str, dtype: str, result: Verification, units: dict[str, str]
) -> dict[str, Any]:
    return {
        "form": form,
        "elements": model.elements,
        "network": model.config.model_dump(),
        "cutoff": model.config.cutoff,
        "dtype": dtype,
        "units": units,
        "reference_energies": {str(z): energy for z, energy in model.reference_energies.items()},
        "trained_sha256": sha256(model_path),
        "training": model.training,
        "verification": asdict(result),
        "piwsl_version": __version__,
        "torch_version": torch.__version__,
    }
