"""Checks of the physical laws that every potential must obey, for built-in networks, exports and your own models.

`scan_model` computes energies along paths that leave the data.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase.build import molecule
from numpy.typing import ArrayLike
from pydantic import ValidationError
from torch import Tensor, nn

from piwsl.data.batch import Batch, collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, reason_of
from piwsl.losses.forward_mode import directional_derivative
from piwsl.models import DirectPotential, ModelConfig, Potential, build_potential
from piwsl.training.scan import Scan, scan_model
from piwsl.typing import FloatArray

__all__ = [
    "TOLERANCES",
    "ModelCheckError",
    "PotentialCall",
    "Scan",
    "Tolerances",
    "check_model",
    "check_network",
    "scan_model",
]

PotentialCall = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(species, positions, edges, edge_shifts, structure_index, n_structures) -> energies (S,) eV, forces (N, 3) eV/A."""


@dataclass(frozen=True)
class Tolerances:
    """Largest accepted differences.

    Attributes:
        energy_per_atom: Energy per atom, eV.
        force: Component of a force, eV/angstrom.
        finite_difference: Force component minus the central difference of energies, eV/angstrom.
    """

    energy_per_atom: float
    force: float
    finite_difference: float


TOLERANCES = {
    torch.float32: Tolerances(energy_per_atom=2e-5, force=5e-4, finite_difference=2e-2),
    torch.float64: Tolerances(energy_per_atom=1e-9, force=1e-8, finite_difference=1e-5),
}
_STEP = {torch.float32: 1e-2, torch.float64: 1e-4}  # angstrom
_DEPTH = {torch.float32: 2e-2, torch.float64: 1e-3}  # depth of the first smoothness check / cutoff
_MARGIN = 0.1  # angstrom by which edges exceed the cutoff, so that moved atoms keep all their neighbors


class ModelCheckError(AssertionError):
    """A potential violates a law that every potential must obey."""


def check_model(
    potential: PotentialCall,
    frames: Sequence[Frame],
    cutoff: float,
    dtype: torch.dtype = torch.float32,
    *,
    conservative: bool = True,
    devices: Sequence[str] | None = None,
) -> None:
    """Check the physical laws of a potential.

    The laws are: extensive energy; symmetry under translation, rotation, inversion and permutation; F = -dE/dx;
    smoothness at the cutoff (when an atom enters, its contributions to energy, forces and the derivative of the forces
    start at zero). The results must have the right types and shapes, the inputs must stay unchanged, and batches must
    give the same results as single structures, for odd and even numbers of atoms.
    For a `piwsl.models.Potential`, forward-mode derivatives, which training with PITC uses, must agree with reverse
    mode: the directional derivative of the energy, and its gradients with respect to the weights.
    For a `torch.nn.Module`, a float64 copy must agree with float32 and is used to check smoothness, and a copy on each
    device must agree with the CPU. For any other function in float32, discontinuities below the force tolerance are
    not detected.

    Args:
        potential: Function as described by `PotentialCall`, such as a `piwsl.models.Potential`, on the CPU.
        frames: Realistic molecules without a cell, of at least two atoms and two different sizes. They may state a
            charge and a spin.
        cutoff: Range of the potential, angstrom.
        dtype: Data type of positions and forces.
        conservative: False for a potential with a force head, to skip F = -dE/dx.
        devices: Devices on which a module must give equal results; by default ``cuda`` if available.

    Raises:
        ModelCheckError: A law is violated; the message names the law, the frame and the measured value.
    """
    if devices is None:
        devices = ["cuda"] if torch.cuda.is_available() else []
    check = _Check(potential, cutoff, dtype)
    for index, frame in enumerate(frames):
        check.name = f"frame {index} ({frame.atoms().get_chemical_formula()})"
        check.types_and_inputs(frame)
        check.translation(frame)
        check.rotation(frame)
        check.inversion(frame)
        check.permutation(frame)
        check.extensive(frame)
        if conservative:
            check.derivative(frame)
        if isinstance(potential, Potential) and not isinstance(potential, DirectPotential):
            check.forward_mode(frame)
        check.smoothness(frame)
        check.precision(frame)
        for device in devices:
            check.device(frame, device)
    check.name = "all frames in one batch"
    check.batching(frames)
    # Removing one atom turns odd numbers of atoms into even ones.
    check.name = "all frames in one batch, each also without its last atom"
    check.batching([variant for frame in frames for variant in (frame, _without_last(frame))])


def check_network(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> None:
    """Check the laws of a registered network with random weights on water, ethanol and chloromethane.

    Args:
        name: Name under which the network was registered.
        dtype: Data type of positions and forces.
        **options: Keys of the `model` section of a configuration, such as ``cutoff`` or ``width``.

    Raises:
        ConfigError: No network has this name, or an option is wrong.
        ModelCheckError: A law is violated, as in `check_model`.
    """
    try:
        config = ModelConfig(network=name, **options)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"model.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    frames = [Frame.from_atoms(molecule(formula)) for formula in ("H2O", "CH3CH2OH", "CH3Cl")]
    potential = build_potential(config, dict.fromkeys((1, 6, 8, 17), 0.0))
    potential.network.to(dtype)
    batch = collate(frames, config.cutoff, dtype)
    try:
        states = [torch.zeros((len(frames), 2), dtype=dtype)] if potential.takes_charge else []
        inputs = (batch.species, batch.edges, batch.edge_vectors(), batch.structure_index, *states)
        energies = potential.network(*inputs)
    except Exception as error:  # a user's network may raise any exception
        raise ModelCheckError(f"network {name} failed on a batch of three molecules: {reason_of(error)}") from error
    if config.forces == "direct":
        energies = energies[0]
    if energies.shape != batch.species.shape:
        raise ModelCheckError(
            f"network {name} returns energies of shape {tuple(energies.shape)}, expected one per atom, "
            f"{tuple(batch.species.shape)}"
        )
    check_model(potential, frames, config.cutoff, dtype, conservative=config.forces == "conservative")


class _Check:
    def __init__(self, potential: PotentialCall, cutoff: float, dtype: torch.dtype) -> None:
        self.potential = potential
        self.cutoff = cutoff
        self.dtype = dtype
        self.tolerances = TOLERANCES[dtype]
        self.exact, self.exact_dtype = potential, dtype
        if dtype == torch.float32 and isinstance(potential, nn.Module):
            # Interactions near the cutoff are so weak that rounding in float32 hides a kink.
            self.exact, self.exact_dtype = copy.deepcopy(potential).double(), torch.float64
        self.rng = np.random.default_rng(0)
        self.name = ""

    def types_and_inputs(self, frame: Frame) -> None:
        batch = collate([frame], self.cutoff, self.dtype)
        before = [tensor.clone() for tensor in _inputs(batch)]
        energies, forces = self.potential(*_inputs(batch), 1, *_states(batch))
        after = _inputs(batch)
        self._require(all(map(torch.equal, before, after)), "the call changed its inputs")
        self._require(energies.dtype == torch.float64, f"energies are {energies.dtype}, expected float64")
        self._require(energies.shape == (1,), f"energies have shape {tuple(energies.shape)}, expected (1,)")
        self._require(forces.dtype == self.dtype, f"forces are {forces.dtype}, expected {self.dtype}")
        self._require(forces.shape == batch.positions.shape, f"forces have shape {tuple(forces.shape)}")

    def translation(self, frame: Frame) -> None:
        moved = replace(frame, positions=frame.positions + np.array([0.3, -1.1, 0.7]))
        self._same("translation", self._call([frame]), self._call([moved]))

    def rotation(self, frame: Frame) -> None:
        matrix, _ = np.linalg.qr(self.rng.normal(size=(3, 3)))
        matrix[:, 0] *= np.sign(np.linalg.det(matrix))
        energies, forces = self._call([frame])
        turned = self._call([replace(frame, positions=frame.positions @ matrix)])
        self._same("rotation", (energies, forces @ matrix), turned)

    def inversion(self, frame: Frame) -> None:
        energies, forces = self._call([frame])
        self._same("inversion", (energies, -forces), self._call([replace(frame, positions=-frame.positions)]))

    def permutation(self, frame: Frame) -> None:
        order = self.rng.permutation(len(frame.species))
        energies, forces = self._call([frame])
        shuffled = replace(
            frame, species=frame.species[order], positions=frame.positions[order], forces=frame.forces[order]
        )
        self._same("permutation", (energies, forces[order]), self._call([shuffled]))

    def extensive(self, frame: Frame) -> None:
        energies, forces = self._call([frame])
        double = _with_more(frame, frame.species, frame.positions + np.array([100.0, 0.0, 0.0]))
        double = replace(double, charge=2.0 * frame.charge, unpaired_electrons=2.0 * frame.unpaired_electrons)
        self._same("extensivity", (2.0 * energies, np.tile(forces, (2, 1))), self._call([double]))

    def derivative(self, frame: Frame) -> None:
        # Avoid symmetric geometries, where norms of vanishing vectors have their largest curvature.
        frame = replace(frame, positions=frame.positions + self.rng.normal(scale=0.02, size=frame.positions.shape))
        _, forces = self._call([frame])
        direction = self.rng.normal(size=frame.positions.shape)
        direction /= np.linalg.norm(direction)
        step = _STEP[self.dtype]
        ahead = self._call([replace(frame, positions=frame.positions + step * direction)])[0]
        behind = self._call([replace(frame, positions=frame.positions - step * direction)])[0]
        slope = float((ahead - behind)[0]) / (2.0 * step)
        self._small("F = -dE/dx", abs(slope + float((forces * direction).sum())), self.tolerances.finite_difference)

    def forward_mode(self, frame: Frame) -> None:
        """Compare forward and reverse mode for the work along a step and its gradient with respect to the weights.

        PyTorch's forward-mode formulas are wrong for some operations (see `piwsl.losses.forward_mode`).
        """
        assert isinstance(self.potential, Potential)
        potential = copy.deepcopy(self.potential).double().requires_grad_(True)
        batch = collate([frame], self.cutoff, torch.float64)
        step = torch.from_numpy(self.rng.normal(scale=0.02, size=frame.positions.shape))
        weights = [weight for weight in potential.parameters() if weight.requires_grad]

        def energies(positions: Tensor) -> Tensor:
            result: Tensor = potential.energies(*batch.moved(positions).graph)
            return result

        def gradients(work: Tensor) -> list[FloatArray]:
            parts = torch.autograd.grad([work.sum()], weights, allow_unused=True) if weights else ()
            return [np.zeros(w.shape) if g is None else g.numpy() for w, g in zip(weights, parts, strict=True)]

        try:
            forward = directional_derivative(energies, batch.positions, step)[1]
            forward_gradients = gradients(forward)
        except (NotImplementedError, RuntimeError, AssertionError) as error:
            raise ModelCheckError(
                f"{self.name}: forward mode: the directional derivative of the energy fails ({reason_of(error)})"
            ) from error
        positions = batch.positions.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad([energies(positions).sum()], [positions], create_graph=True)
        reverse = (slope * step).sum()
        difference = abs(float(forward.detach().sum() - reverse.detach()))
        self._small("forward mode against reverse mode (work along a step)", difference, 1e-8 * _size(reverse))
        names = [name for name, weight in potential.named_parameters() if weight.requires_grad]
        reverse_gradients = gradients(reverse)
        largest = max((float(np.abs(values).max(initial=0.0)) for values in reverse_gradients), default=0.0)
        for name, left, right in zip(names, forward_gradients, reverse_gradients, strict=True):
            law = f"forward mode against reverse mode (gradient of the work by {name})"
            self._small(law, float(np.abs(left - right).max(initial=0.0)), 1e-8 * max(largest, 1.0))

    def smoothness(self, frame: Frame) -> None:
        """Bring in an atom of each element beyond the outermost atom, so that a single pair crosses the cutoff."""
        outwards = frame.positions - frame.positions.mean(0)
        outermost = int(np.linalg.norm(outwards, axis=1).argmax())
        direction = outwards[outermost] / np.linalg.norm(outwards[outermost])
        depths = self.cutoff * _DEPTH[self.exact_dtype] * 0.5 ** np.arange(4)
        for number in np.unique(frame.species):
            distances = self.cutoff + np.array([100.0, 0.5 * _MARGIN, *-depths])
            places = frame.positions[outermost] + distances[:, None] * direction
            frames = [_with_more(frame, [number], [place]) for place in places]
            far, outside, *inside = (self._call([moved], self.exact, self.exact_dtype) for moved in frames)
            self._same("no interaction beyond the cutoff", far, outside)
            changes = [forces - far[1] for _, forces in inside]
            slopes = [np.diff(changes, axis=0)[k] / (depths[k] - depths[k + 1]) for k in range(3)]
            tolerances = TOLERANCES[self.exact_dtype]
            energy_noise, noise = tolerances.energy_per_atom * len(frame.species), tolerances.force
            self._vanishes("energy", "eV", [energies - far[0] for energies, _ in inside], depths, energy_noise)
            self._vanishes("forces", "eV/A", changes, depths, noise)
            self._vanishes("derivative of the forces", "eV/A^2", slopes, depths, noise / depths[-1])

    def precision(self, frame: Frame) -> None:
        if self.exact_dtype != self.dtype:
            exact = self._call([frame], self.exact, self.exact_dtype)
            self._same("float32 against float64", exact, self._call([frame]))

    def device(self, frame: Frame, device: str) -> None:
        if isinstance(self.potential, nn.Module):
            moved = copy.deepcopy(self.potential).to(device)
            try:
                results = self._call([frame], moved, device=device)
            except RuntimeError as error:
                raise ModelCheckError(f"{self.name}: on {device}: {reason_of(error)}") from error
            self._same(f"{device} against cpu", self._call([frame]), results)

    def batching(self, frames: Sequence[Frame]) -> None:
        energies, forces = self._call(frames)
        ends = np.cumsum([len(frame.species) for frame in frames])
        for index, (frame, end) in enumerate(zip(frames, ends, strict=True)):
            together = energies[index : index + 1], forces[end - len(frame.species) : end]
            self._same("batching", self._call([frame]), together)

    def _call(
        self,
        frames: Sequence[Frame],
        potential: PotentialCall | None = None,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
    ) -> tuple[FloatArray, FloatArray]:
        batch = collate(frames, self.cutoff + _MARGIN, dtype or self.dtype).to(device)
        energies, forces = (potential or self.potential)(*_inputs(batch), len(frames), *_states(batch))
        for name, result in (("energies", energies), ("forces", forces)):
            where = result.device.type
            self._require(where == batch.positions.device.type, f"{name} are on {where}, the inputs on {device}")
        return energies.detach().cpu().numpy(), forces.detach().cpu().numpy().astype(np.float64)

    def _vanishes(self, what: str, unit: str, changes: Sequence[FloatArray], depths: FloatArray, noise: float) -> None:
        """Require that changes vanish toward the cutoff or fall below the noise.

        Over the last two halvings of the depth, a change must decrease by at least half.
        A change that vanishes linearly decreases to a quarter over two halvings.
        """
        figures = [float(np.abs(change).max()) for change in changes]
        self._require(
            figures[-1] <= max(0.5 * max(figures[:-1]), noise),
            f"smoothness at the cutoff ({what}): {max(figures[:-1]):.2e} {unit} up to {depths[0]:.1e} A inside "
            f"the cutoff, still {figures[-1]:.2e} at {depths[len(figures) - 1]:.1e} A, must go to zero",
        )

    def _same(self, law: str, left: tuple[FloatArray, FloatArray], right: tuple[FloatArray, FloatArray]) -> None:
        energies, forces = (np.abs(first - second).max() for first, second in zip(left, right, strict=True))
        self._small(f"{law} (energy per atom)", energies / len(left[1]), self.tolerances.energy_per_atom)
        self._small(f"{law} (forces)", forces, self.tolerances.force)

    def _small(self, law: str, figure: float, limit: float) -> None:
        self._require(bool(figure <= limit), f"{law}: {figure:.2e}, at most {limit:.0e}")

    def _require(self, satisfied: bool, what: str) -> None:
        if not satisfied:
            raise ModelCheckError(f"{self.name}: {what}")


def _size(value: Tensor) -> float:
    return max(1.0, abs(float(value.detach())))


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return batch.species, batch.positions, batch.edges, batch.edge_shifts, batch.structure_index


def _states(batch: Batch) -> tuple[Tensor, ...]:
    """Return the argument ``charge_spin`` if a structure states a charge or a spin."""
    return () if batch.charge_spin is None else (batch.charge_spin,)


def _with_more(frame: Frame, species: ArrayLike, positions: ArrayLike) -> Frame:
    """Return the frame with additional atoms (n,) at positions (n, 3), without labels."""
    numbers = np.concatenate([frame.species, np.asarray(species, dtype=np.int64)])
    places = np.concatenate([frame.positions, np.asarray(positions, dtype=np.float64)])
    return replace(frame, species=numbers, positions=places, energy=float("nan"), forces=np.full_like(places, np.nan))


def _without_last(frame: Frame) -> Frame:
    forces = frame.forces[:-1]
    return replace(frame, species=frame.species[:-1], positions=frame.positions[:-1], energy=np.nan, forces=forces)
