"""check_model finds each kind of broken model, and says which law it breaks."""

import math

import pytest
import torch
from torch import nn

from piwsl.models.networks.radial import PolynomialCutoff
from piwsl.models.potential import Potential
from piwsl.testing import ModelCheckError, check_model
from tests.models.networks.test_networks import potential
from tests.support import broken_models as broken
from tests.support.broken_models import CUTOFF, HONEST, WithExtra, inside, switched
from tests.support.molecules import frame
from tests.support.potentials import painn

WATER, ETHANOL = frame("H2O"), frame("CH3CH2OH")

BUILT_IN = ["painn", "schnet", "tensornet", "ace", "escn", "equiformer_v2", "spinconv"]


def refused(model, law, frames=(WATER,), dtype=torch.float64, **options):
    with pytest.raises(ModelCheckError, match=law):
        check_model(model, frames, CUTOFF, dtype, **options)


@pytest.mark.parametrize(
    ("extra", "law"),
    [
        (broken.absolute, "translation"),
        (broken.along_z, "rotation"),
        (broken.handed, "inversion"),
        (broken.by_number, "permutation"),
        (broken.per_structure, "extensivity"),
    ],
)
def test_a_broken_symmetry_is_named(extra, law):
    refused(WithExtra(extra), rf"frame 0 \(C2H6O\): {law} \(energy per atom\): .*, at most 1e-09", [ETHANOL])


def test_forces_that_are_no_derivative():
    def wrong_sign(*inputs):
        energies, forces = HONEST(*inputs)
        return energies, -forces

    refused(wrong_sign, "F = -dE/dx")
    check_model(wrong_sign, [WATER], CUTOFF, torch.float64, conservative=False)


def test_structures_that_see_each_other():
    refused(WithExtra(broken.per_batch), "all frames in one batch: batching", [WATER, ETHANOL])


def test_odd_numbers_of_atoms_are_tried_where_all_frames_are_even():
    refused(WithExtra(broken.in_pairs), "without its last atom: batching", [frame("H2O2"), frame("C6H6")])


@pytest.mark.parametrize(
    ("spoil", "law"),
    [
        (lambda energies, forces, positions: (energies.float(), forces), "energies are torch.float32"),
        (lambda energies, forces, positions: (energies, forces.float()), "forces are torch.float32"),
        (lambda energies, forces, positions: (energies.sum(), forces), "energies have shape"),
        (lambda energies, forces, positions: (energies, forces.flatten()), "forces have shape"),
        (lambda energies, forces, positions: (energies, forces, positions.add_(1.0))[:2], "changed its inputs"),
    ],
)
def test_types_shapes_and_inputs(spoil, law):
    def model(species, positions, *rest):
        return spoil(*HONEST(species, positions, *rest), positions)

    refused(model, law)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("power", "quantity"), [(0, "energy"), (1, "forces"), (2, "derivative of the forces")])
def test_what_jumps_at_the_cutoff_is_named(power, quantity, dtype):
    def switch(distances):
        return torch.where(distances < CUTOFF, inside(distances) ** power, 0.0)

    jumping = switched(lambda vectors, distances: torch.exp(-0.5 * distances), switch)
    refused(jumping, rf"smoothness at the cutoff \({quantity}\)", dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_three_powers_are_smooth_enough(dtype):
    smooth = switched(lambda vectors, distances: torch.exp(-0.5 * distances), lambda r: inside(r) ** 3)
    check_model(smooth, [WATER, ETHANOL], CUTOFF, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("network", BUILT_IN)
def test_a_cosine_cutoff_in_our_own_networks_is_found(network, dtype, monkeypatch):
    """What keeps them smooth is the switch of `piwsl.models.networks.radial`: with a cosine the force has a kink."""

    def cosine(self, distances):
        return 0.5 * (1.0 + torch.cos(math.pi * torch.clamp(distances / self.cutoff, max=1.0)))

    made = potential(network, dtype, cutoff=CUTOFF, layers=2, radial_size=8)
    check_model(made, [WATER], CUTOFF, dtype)
    monkeypatch.setattr(PolynomialCutoff, "forward", cosine)
    refused(made, r"smoothness at the cutoff \(derivative of the forces\)", dtype=dtype)


def test_a_longer_range_than_stated_is_found():
    longer = switched(lambda vectors, distances: torch.exp(-0.5 * distances), PolynomialCutoff(CUTOFF + 1.0))
    refused(longer, r"no interaction beyond the cutoff")


def test_float32_that_loses_digits():
    energies = {1: -13.587222780835477, 8: -20418.396277138045}
    rounded = broken.RoundedElements(painn().network.float(), list(energies), list(energies.values()))
    refused(rounded, "float32 against float64", dtype=torch.float32)
    rounded.double()
    check_model(rounded, [WATER], CUTOFF, torch.float64)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (broken.ForgetsItsDevice(), r"frame 0 \(H2O\): on meta: .*device"),
        (broken.ResultsOnCPU(), r"frame 0 \(H2O\): energies are on cpu, the inputs on meta"),
    ],
)
def test_tensors_on_the_wrong_device(model, message):
    """PyTorch's device without memory stands for a GPU: tensors of two devices do not mix there, either."""
    refused(model, message, devices=["meta"])


def test_other_numbers_on_another_device():
    check_model(broken.ChangesWhenMoved(), [WATER], CUTOFF, torch.float64, devices=[])
    refused(broken.ChangesWhenMoved(), "cpu against cpu", devices=["cpu"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", BUILT_IN)
def test_our_own_networks_agree_on_a_gpu(network):
    check_model(potential(network, cutoff=CUTOFF, layers=2), [WATER, ETHANOL], CUTOFF, devices=["cuda"])


class _Square(torch.autograd.Function):
    """x^2, with tangents of a factor that is to be 2, and that may be cut off from the weights."""

    factor, detached = 2.0, False

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        ctx.save_for_forward(values)
        return values**2

    @staticmethod
    def backward(ctx, upstream):
        return 2.0 * upstream * ctx.saved_tensors[0]

    @classmethod
    def _tangent(cls, values, tangent):
        values = values.detach() if cls.detached else values
        return cls.factor * values * tangent

    @staticmethod
    def jvp(ctx, tangent):
        return _Square._tangent(ctx.saved_tensors[0], tangent)


class _WithSquare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.switch = PolynomialCutoff(3.0)

    def forward(self, species, edges, edge_vectors, structure_index):
        distances = edge_vectors.norm(dim=-1)
        pairs = _Square.apply(self.weight * distances) * self.switch(distances)
        return torch.zeros_like(species, dtype=pairs.dtype).index_add(0, edges[0], pairs)


@pytest.mark.parametrize(
    ("factor", "detached", "law"),
    [(2.0, False, None), (2.1, False, "work along a step"), (2.0, True, "gradient of the work by network.weight")],
)
def test_forward_mode_is_compared_with_reverse_mode(monkeypatch, factor, detached, law):
    """The tangents are right at first order and wrong at second where they are cut off from the weights."""
    monkeypatch.setattr(_Square, "factor", factor)
    monkeypatch.setattr(_Square, "detached", detached)
    potential = Potential(_WithSquare().double(), [1, 6, 8], [0.0, 0.0, 0.0])
    frames = [frame("H2O"), frame("CH3CH2OH")]
    if law is None:
        check_model(potential, frames, 3.0, torch.float64)
        return
    with pytest.raises(ModelCheckError, match=f"forward mode against reverse mode .{law}"):
        check_model(potential, frames, 3.0, torch.float64)
