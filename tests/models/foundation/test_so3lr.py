"""SO3LR from a small random model that so3krates-torch 0.2.1 made, with the results of that program."""

import json
from pathlib import Path

import pytest
import torch
from ase import Atoms

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError, ModelFileError
from piwsl.losses.forward_mode import directional_derivative
from piwsl.models import ModelConfig, build_network, build_potential
from piwsl.models.foundation.so3lr import read_so3lr
from piwsl.testing import check_model
from tests.support.foundation_files import changed_file
from tests.support.molecules import frame

FILE = Path(__file__).parent / "so3lr_small.model"
RESULTS = json.loads((Path(__file__).parent / "so3lr_small.json").read_text())


def read(**options):
    return read_so3lr(FILE, source="test", license="MIT", **options)


def potential(dtype=torch.float64, **options):
    model = read(**options)
    made = build_potential(model.config, model.reference_energies, model.scale)
    made.network.load_state_dict(model.tensors)
    made.network.to(dtype)
    return made


@pytest.mark.parametrize(("dtype", "energy", "force"), [(torch.float64, 1e-6, 1e-6), (torch.float32, 3e-5, 1e-4)])
@pytest.mark.parametrize("result", RESULTS, ids=[f"{one['symbols']} {one['charge']}" for one in RESULTS])
def test_results_of_the_original_program(result, dtype, energy, force):
    made = potential(dtype, charge=result["charge"], unpaired_electrons=result["unpaired_electrons"])
    atoms = Atoms(result["symbols"], result["positions"])
    energies, forces = made(*collate([Frame.from_atoms(atoms)], 8.0, dtype).graph)
    assert energies.tolist() == pytest.approx([result["energy"]], abs=energy)
    assert torch.allclose(forces.double(), torch.tensor(result["forces"], dtype=torch.float64), rtol=0, atol=force)


def test_options_and_elements_of_the_file():
    model = read(charge=-1)
    assert sorted(model.reference_energies) == [1, 6, 7, 8]
    assert model.config.cutoff == 8.0
    assert (model.config.message_cutoff, model.config.degrees, model.config.charge) == (4.0, 2, -1)
    assert model.origin.license == "MIT"


def test_a_batch_shares_no_charge_between_structures():
    made = potential(charge=1, unpaired_electrons=1)
    frames = [frame("H2O"), frame("CH3CH2OH"), frame("NH3")]
    together, _ = made(*collate(frames, 8.0, torch.float64).graph)
    single = [float(made(*collate([one], 8.0, torch.float64).graph)[0].detach()) for one in frames]
    assert together.tolist() == pytest.approx(single, abs=1e-9)


@pytest.mark.slow
def test_the_laws_of_a_potential():
    # The electrostatic energy of the original has a jump in its second derivative at the cutoff, of 1e-3 eV/A^2.
    made = potential()
    made.network.electrostatics.prefactor = 0.0
    check_model(made, [frame("H2O"), frame("CH3CH2OH")], 8.0, torch.float64)


def test_a_single_atom_and_a_cell():
    made = potential()
    lone = Frame.from_atoms(Atoms("O", [[0.0, 0.0, 0.0]]))
    energies, forces = made(*collate([lone], 8.0, torch.float64).graph)
    assert torch.isfinite(energies).all()
    assert float(forces.abs().max()) == 0.0
    cell = frame("H2O").atoms()
    cell.set_cell([4.1, 4.4, 5.0])
    cell.pbc = True
    small, large = Frame.from_atoms(cell), Frame.from_atoms(cell * (2, 1, 1))
    (e_small, f_small), (e_large, f_large) = (made(*collate([f], 8.0, torch.float64).graph) for f in (small, large))
    assert e_large.tolist() == pytest.approx([2.0 * value for value in e_small.tolist()], abs=1e-9)
    assert torch.allclose(f_large, f_small.repeat(2, 1), atol=1e-9)


def test_the_directional_derivative_equals_the_forces_and_reaches_the_weights():
    made = potential()
    batch = collate([frame("CH3CH2OH"), frame("H2O")], 8.0, torch.float64)
    steps = 0.01 * torch.randn(batch.positions.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, change = directional_derivative(lambda moved: made.energies(*batch.moved(moved).graph), batch.positions, steps)
    _, forces = made(*batch.graph, create_graph=True)
    work = -(forces * steps).sum()
    assert change.sum().item() == pytest.approx(work.item(), rel=1e-10)
    weights = [weight for name, weight in made.network.named_parameters() if name != "energy.network.2.bias"]
    forward = torch.autograd.grad(change.sum(), weights, materialize_grads=True)
    reverse = torch.autograd.grad(work, weights, materialize_grads=True)
    for one, two in zip(forward, reverse, strict=True):
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-9)


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match=r"model.channels: 20 must be a multiple of heads \(3\)"):
        build_network(ModelConfig(network="so3lr", channels=20, heads=3))


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("radial_basis_fn", "gaussian", "option radial_basis_fn is 'gaussian': piwsl supports only 'bernstein'"),
        ("residual_mlp_2", True, "option residual_mlp_2 is True: piwsl supports only False"),
        ("use_pme", True, "option use_pme is True"),
        ("degrees", [1, 3], r"degrees \[1, 3\]"),
        ("degrees", 3, "not an SO3LR model that piwsl represents"),
        ("num_features", None, "not an SO3LR model that piwsl represents"),
    ],
)
def test_an_option_that_the_network_lacks_is_named(tmp_path, attribute, value, message):
    path = changed_file(FILE, tmp_path / "changed.model", {attribute: value})
    with pytest.raises(ModelFileError, match=message):
        read_so3lr(path, source="test", license="MIT")
