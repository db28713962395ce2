"""Exporter that creates exported files from trained files and verifies them before they are written."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from piwsl.compat.torch import load_package
from piwsl.data.batch import collate
from piwsl.data.charges import NO_CHARGE, ChargeSpin
from piwsl.data.domain import TrainingDomain
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, ExportError, reason_of
from piwsl.export.exported_file import ExportedPotential, compiled_for, described, save_exported, with_description
from piwsl.export.forms.compiled import Program, compile_package, edges_program, molecule_program
from piwsl.export.forms.graph import SMALLEST_MOLECULE, as_torchscript, molecule_function, trace
from piwsl.export.forms.scripted import (
    CopiesForm,
    EdgesCore,
    GeneralForm,
    MinimumImages,
    MoleculeForm,
    OpenMMForm,
    pair_edges,
)
from piwsl.export.supported import check_elements, trained_order
from piwsl.export.trained_file import DTYPES, TrainedModel, load_trained
from piwsl.export.verify import (
    Verification,
    carried_structures,
    charge_variants,
    eager,
    expectations,
    parity_variants,
    verify,
)
from piwsl.models import Potential, registered_network
from piwsl.models.neighbor_sums.molecule import MoleculeCopies, MoleculePairs
from piwsl.models.priors.walls import WallRanges
from piwsl.runs.files import sha256, write_bytes
from piwsl.runs.process_settings import process_settings
from piwsl.runs.scratch import scratch_directory

Format = Literal["torchscript", "aotinductor"]
# Up to about this size, a graph of all pairs is faster than lists of edges. Its cost is quadratic in the size.
LARGEST_MOLECULE = 200
_UNITS = {"energy": "eV", "length": "angstrom", "force": "eV/angstrom"}
_OPENMM_UNITS = {"energy": "kJ/mol", "length": "nm", "force": "kJ/mol/nm"}


class Exporter:
    """Exporter of a trained model, or of an ensemble of models as one potential.

    Args:
        paths: Trained files. Several files form an ensemble.
        dtype: Float type of the network. The default is the float type of the trained files.
        device: Device on which a compiled file will run, ``cpu`` or ``cuda``. A TorchScript file runs on both.
        head: Name of the level of theory whose head is exported. The default is the main level.

    Raises:
        ModelFileError: A trained file cannot be read.
        ConfigError: The members of an ensemble differ in cutoff, elements or kind of forces, a file has no head of this
            name, or PyTorch finds no GPU.
    """

    def __init__(
        self, paths: Sequence[Path], dtype: str | None = None, device: str = "cpu", head: str | None = None
    ) -> None:
        self.paths = list(paths)
        self.models = [load_trained(path, head) for path in self.paths]
        _check_members(self.paths, self.models)
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device='cuda', but PyTorch finds no GPU: use device='cpu'")
        self.dtype = dtype or self.models[0].dtype
        self.device = device
        self.cutoff = self.models[0].config.cutoff
        self.takes_charge = self.models[0].config.takes_charge
        self._fixed = NO_CHARGE

    @property
    def limitation(self) -> str | None:
        """Return the law that a network breaks, with its name, or None."""
        names = dict.fromkeys(model.config.network for model in self.models)
        broken = [f"network {name}: {registered_network(name).limitation}" for name in names if _is_limited(name)]
        return "; ".join(broken) or None

    @property
    def molecule(self) -> list[int] | None:
        """Atomic numbers of the only molecule that the walls of the models support; None without such walls."""
        return self.models[0].config.molecule

    def in_order_of(self, structure: Frame) -> "Exporter":
        """Return an exporter whose walls, if they support one molecule, have the order of the atoms of a structure.

        Raises:
            ElementError: The structure is another molecule, or the order of its atoms cannot be determined, see
                `trained_order`.
        """
        exporter = copy(self)
        exporter.models = [_in_order_of(model, structure) for model in self.models]
        return exporter

    def general(self, output: Path, form: Format = "torchscript") -> Verification:
        """Write a file for any structure of the elements of the model, or for the only molecule that its walls support.

        Raises:
            ExportError: The result disagrees with the eager model or cannot be compiled. Nothing is written.
        """
        self._fixed = NO_CHARGE
        core = self._core()
        info = {"target": "general", "pairs": "edges", "units": _UNITS, "takes_charge": self.takes_charge}
        frames = self._check_frames()
        if self.molecule is None:
            frames = parity_variants(frames)
        if self.takes_charge:
            frames = charge_variants(frames)
        if form == "aotinductor":
            frames = [frame for frame in frames if len(frame.species) > 1]
            example = self._edges_example(frames)
            with self._network_errors("traced as a graph"):
                program = edges_program(core, example)
            return self._compiled(program, info, frames, output)
        return self._scripted(GeneralForm(core, self.cutoff), info, frames, output)

    def openmm(
        self,
        structure: Frame,
        output: Path,
        form: Format = "torchscript",
        largest_molecule: int = LARGEST_MOLECULE,
        copies: int = 1,
    ) -> Verification:
        """Write a file for the atoms of one structure, in this order.

        For a molecule of up to ``largest_molecule`` atoms without a cell, the file contains a graph of all pairs.
        Otherwise, it contains a neighbor search. Several ``copies`` of a molecule are evaluated in one call and do not
        interact. If the network takes charge and spin as input, the file contains those that the structure states.

        Raises:
            ElementError: The model was not trained on an element of the structure.
            ConfigError: ``copies`` is less than 1, or the structure does not support copies.
            ExportError: The result disagrees with the eager model or cannot be compiled. Nothing is written.
        """
        if copies < 1:
            raise ConfigError(f"copies={copies}: use at least 1")
        for model in self.models:
            check_elements(model.elements, structure.species.tolist())
        return self.in_order_of(structure)._openmm(structure, output, form, largest_molecule, copies)

    def _openmm(self, structure: Frame, output: Path, form: Format, largest_molecule: int, copies: int) -> Verification:
        species = structure.species.tolist()
        same = [
            frame for frame in self._check_frames() if frame.species.tolist() == species and frame.pbc == structure.pbc
        ]
        info: dict[str, Any] = {"target": "openmm", "species": species, "units": _OPENMM_UNITS}
        frames = [*same, structure]
        default = self.models[0].config.default_charge
        if default is not None:
            self._fixed = structure.charge_spin.over(ChargeSpin(*default))
            charge, unpaired = self._fixed.charge, self._fixed.unpaired_electrons
            info["fixed_charge"] = (charge, unpaired)
            frames = [replace(frame, charge=charge, unpaired_electrons=unpaired) for frame in frames]
        if any(structure.pbc) and not all(structure.pbc):
            raise ExportError(
                "OpenMM supports only boxes that are periodic in all directions, or no box: use target='general'"
            )
        if not self.takes_neighbor_sums and (copies > 1 or form == "aotinductor"):
            raise ExportError(
                f"network {self.models[0].config.network} does not accept neighbor_sums, which a graph of one molecule "
                "requires: use target='general', or format='torchscript' and copies=1"
            )
        if form == "torchscript" and copies == 1:
            largest_molecule = self._largest_molecule(largest_molecule)
        in_one_graph = self.takes_neighbor_sums and SMALLEST_MOLECULE <= len(species) <= largest_molecule
        if any(structure.pbc) or not in_one_graph:
            if copies > 1:
                raise ConfigError(
                    f"copies=N supports only molecules of {SMALLEST_MOLECULE} to {largest_molecule} atoms without a "
                    "cell: use target='general', which supports replicas of any structure"
                )
            if form == "aotinductor":
                raise ExportError(
                    f"target='openmm' with format='aotinductor' supports only molecules of {SMALLEST_MOLECULE} to "
                    f"{largest_molecule} atoms without a cell: use target='general', or format='torchscript'"
                )
            general = GeneralForm(self._core(), self.cutoff)
            return self._scripted(OpenMMForm(general, species), {**info, "pairs": "edges"}, frames, output)
        separate = copies > 1 and form == "torchscript"
        pairs = (MoleculeCopies if separate else MoleculePairs)(len(species), copies).to(self.device)
        potentials = self._potentials(pairs)
        info |= {"pairs": "molecule", "copies": copies}
        numbers = torch.tensor(species, device=self.device)
        positions = torch.from_numpy(structure.positions).to(self.device).repeat(copies, 1)
        if form == "aotinductor":
            with self._network_errors("traced as a graph"):
                program = molecule_program(potentials, pairs, numbers, positions, DTYPES[self.dtype])
            return self._compiled(program, {**info, "units": _UNITS}, frames, output)
        images = MinimumImages(pair_edges(pairs), self.cutoff)
        vectors = images(positions, None).to(DTYPES[self.dtype])
        with self._network_errors("traced as a graph"):
            graph = as_torchscript(trace(molecule_function(potentials, pairs, numbers), [vectors]), [vectors])
        around = (graph, images, DTYPES[self.dtype], len(potentials), species)
        module = MoleculeForm(*around) if copies == 1 else CopiesForm(*around, copies)
        return self._scripted(module, info, frames, output)

    def _scripted(self, module: nn.Module, info: dict[str, Any], frames: Sequence[Frame], output: Path) -> Verification:
        info = self._info(info, "torchscript")
        buffer = io.BytesIO()
        with self._network_errors("written as TorchScript", ": choose target='general', format='aotinductor'"):
            torch.jit.save(torch.jit.script(module.eval()), buffer)
        buffer.seek(0)
        # The verified module is loaded from the serialized bytes.
        scripted = torch.jit.load(buffer, map_location=self.device)
        potential = ExportedPotential(output, info, scripted, self.device)
        result, extra = self._verified(potential, frames)
        save_exported(scripted, {**info, **extra}, output)
        return result

    def _compiled(self, program: Program, info: dict[str, Any], frames: Sequence[Frame], output: Path) -> Verification:
        info = {**self._info(info, "aotinductor"), "compiled_for": compiled_for(self.device)}
        with scratch_directory("export") as folder:
            package = folder / "model.pt2"
            compile_package(program, package)
            loaded = load_package(package)
            potential = ExportedPotential(output, info, loaded, self.device, package.read_bytes())
            result, extra = self._verified(potential, frames)
            write_bytes(output, with_description(package.read_bytes(), described({**info, **extra})))
        return result

    def _verified(self, potential: ExportedPotential, frames: Sequence[Frame]) -> tuple[Verification, dict[str, Any]]:
        model = eager(self._potentials(), self.cutoff, DTYPES[self.dtype])
        exact = eager(self._potentials(dtype="float64"), self.cutoff)
        # Many small structures are evaluated: further threads would mostly wait for each other.
        with process_settings(threads=1):
            expected = expectations(frames, model, exact)
            result = verify(potential, expected)
        return result, {"verification": asdict(result), "check": carried_structures(expected)}

    def _core(self) -> EdgesCore:
        return EdgesCore(self._potentials(), DTYPES[self.dtype], self.molecule).to(self.device)

    def _potentials(self, pairs: MoleculePairs | None = None, dtype: str | None = None) -> list[Potential]:
        potentials = [model.potential(pairs, dtype or self.dtype).to(self.device) for model in self.models]
        if self._fixed.is_stated:
            for potential in potentials:
                states = [[self._fixed.charge, self._fixed.unpaired_electrons]]
                potential.default_charge_spin = torch.tensor(states, dtype=torch.float64, device=self.device)
        return potentials

    @property
    def takes_neighbor_sums(self) -> bool:
        """Whether all networks accept neighbor sums, which a graph of one molecule or of its copies requires."""
        configs = [model.config for model in self.models]
        return all(
            registered_network(one.network).takes_neighbor_sums(one.options, one.forces == "direct") for one in configs
        )

    def _largest_molecule(self, largest: int) -> int:
        limits = [registered_network(model.config.network).largest_molecule for model in self.models]
        return min(largest, *(limit for limit in limits if limit is not None), largest)

    @contextmanager
    def _network_errors(self, attempt: str, advice: str = "") -> Iterator[None]:
        """Convert errors of PyTorch about a network that cannot be exported to a one-line `ExportError`."""
        try:
            yield
        except ExportError:
            raise
        except Exception as error:  # compilers may raise any error for the network of a user
            network = self.models[0].config.network
            raise ExportError(f"network {network} cannot be {attempt} ({reason_of(error)}){advice}") from error

    def _check_frames(self) -> list[Frame]:
        return list(self.models[0].check_frames)

    def _edges_example(self, frames: Sequence[Frame]) -> tuple[Tensor, ...]:
        if not frames:
            raise ExportError(
                "the trained file contains no structures for the verification of an export: train the model again"
            )
        # Sizes that happen to be equal in the example would be taken for equal in general.
        largest = max(frames, key=lambda frame: len(frame.species))
        batch = collate([largest], self.cutoff, DTYPES[self.dtype]).to(self.device)
        states = torch.tensor([[1.0, 1.0]], dtype=torch.float64, device=self.device)
        return batch.species, batch.edges, batch.edge_vectors(), *((states,) if self.takes_charge else ())

    def _info(self, info: dict[str, Any], form: Format) -> dict[str, Any]:
        first = self.models[0]
        return {
            **info,
            "format_of_program": form,
            "members": len(self.models),
            "elements": first.elements,
            "network": first.config.model_dump(mode="json"),
            "limitation": self.limitation,
            "cutoff": self.cutoff,
            "dtype": self.dtype,
            "stress": first.config.forces == "conservative",
            "reference_energies": {str(z): energy for z, energy in first.reference_energies.items()},
            "trained_sha256": [sha256(path) for path in self.paths],
            "training": [model.training for model in self.models],
            "domain": None if first.domain is None else self._domain(first.domain).model_dump(),
            "torch_version": torch.__version__,
        }

    def _domain(self, domain: TrainingDomain) -> TrainingDomain:
        """Return the domain with the charge that the file fixes."""
        if not self._fixed.is_stated:
            return domain
        fixed = (self._fixed.charge, self._fixed.unpaired_electrons)
        return domain.model_copy(update={"default_charge": fixed})


def _in_order_of(model: TrainedModel, structure: Frame) -> TrainedModel:
    walls = model.config.walls
    order = trained_order(walls, structure.species.tolist(), structure.positions, any(structure.pbc))
    if order is None or not isinstance(walls, WallRanges):
        return model
    config = model.config.model_copy(update={"walls": walls.reordered(order.tolist())})
    frames = [frame.reordered(np.argsort(order)) for frame in model.check_frames]
    return replace(model, config=config, check_frames=frames)


def _is_limited(network: str) -> bool:
    return registered_network(network).limitation is not None


def _check_members(paths: Sequence[Path], models: Sequence[TrainedModel]) -> None:
    first = models[0]
    for path, model in zip(paths[1:], models[1:], strict=True):
        for what, expected, value in (
            ("cutoff", first.config.cutoff, model.config.cutoff),
            ("elements", first.elements, model.elements),
            ("forces", first.config.forces, model.config.forces),
            ("charges", first.config.default_charge, model.config.default_charge),
            ("molecule of model.walls", first.config.molecule, model.config.molecule),
        ):
            if value != expected:
                raise ConfigError(
                    f"{path} and {paths[0]} differ in {what} ({value} and {expected}): export them separately"
                )
