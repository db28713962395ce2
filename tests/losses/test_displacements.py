import numpy as np
import pytest
import torch
from ase import Atoms

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.errors import ConfigError
from piwsl.losses import (
    Displacement,
    FixedLength,
    FractionOfNearestNeighbor,
    FrameRandom,
    RandomDirection,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
)
from piwsl.losses.displacements import nearest_neighbor_distances
from tests.support.molecules import cell, frame, oxide
from tests.support.potentials import painn

FRAMES = [frame("C6H6"), frame("H2O"), frame("CH3CH2OH", labeled=True)]
BATCH = collate(FRAMES, 5.0, torch.float64)
SIZES = BATCH.n_atoms.tolist()
NORMAL, UNIFORM = RandomDirection("normal"), RandomDirection("uniform")
POTENTIAL = painn(layers=1)
ADVERSARIAL = [TowardsForceError(), TowardsEnergyError(), TowardsDisagreement()]


def draw(displacement, step=0, batch=BATCH, copy=0, seed=0):
    return displacement(batch, FrameRandom(seed, step), POTENTIAL, copy)


def many(displacement, batch=BATCH, count=200):
    return torch.stack([displacement(batch, FrameRandom(0, step), None) for step in range(count)])


def norms(steps):
    return torch.linalg.vector_norm(steps, dim=-1)


@pytest.mark.parametrize("direction", [NORMAL, UNIFORM, *ADVERSARIAL])
def test_every_atom_moves_by_the_length(direction):
    lengths = norms(draw(Displacement(direction, FixedLength(0.07))))
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.07), rtol=1e-9, atol=0)


@pytest.mark.parametrize("direction", [NORMAL, UNIFORM, *ADVERSARIAL])
@pytest.mark.parametrize("remove", ["nothing", "translation", "rigid"])
def test_the_norm_of_a_structure_is_the_length(direction, remove):
    step = draw(Displacement(direction, FixedLength(0.07), norm="structure", remove=remove, probability=0.8))
    found = [float(part.norm()) for part in step.split(SIZES)]
    assert found == pytest.approx([0.07] * 3, rel=1e-9)


def test_the_norm_of_a_structure_keeps_the_relative_lengths_of_a_direction():
    class First:
        passes = 1

        def __call__(self, batch, random, lengths, potential):
            vectors = torch.zeros_like(batch.positions)
            vectors[0, 0], vectors[1, 1] = 3e-6, 4e-6  # small ones: nothing may overrule them
            return vectors

    step = draw(Displacement(First(), FixedLength(0.1), norm="structure"))
    expected = torch.zeros(12, 3, dtype=torch.float64)
    expected[0, 0], expected[1, 1] = 0.06, 0.08
    torch.testing.assert_close(step[:12], expected)
    # Structures without any preference move at random; with the norm of atoms, so do atoms without one.
    assert (norms(step[12:]) > 0).all()
    lengths = norms(draw(Displacement(First(), FixedLength(0.1))))
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.1))


def test_a_share_of_the_distance_to_the_nearest_neighbor():
    length = FractionOfNearestNeighbor(0.2)
    batch = collate([frame("H2O", rattle=0.0), frame("O"), cell(rattle=0.0)], 5.0, torch.float64)
    expected = [0.9686] * 3 + [length.reach] + [length.reach] * 4  # O-H; nobody; 3.7 angstrom in the cell
    assert norms(draw(Displacement(length=length), batch=batch)).tolist() == pytest.approx(
        [0.2 * one for one in expected], abs=1e-3
    )


def test_the_nearest_neighbor_may_be_in_another_image():
    alone = Frame.from_atoms(Atoms("O", cell=[2.0, 3.0, 4.0], pbc=True))
    batch = collate([alone, oxide()], 5.0, torch.float64)
    distances = oxide().atoms().get_all_distances(mic=True) + 9.0 * np.eye(3)
    assert nearest_neighbor_distances(batch, 9.0).tolist() == pytest.approx([2.0, *distances.min(0)])


@pytest.mark.parametrize("direction", [NORMAL, UNIFORM])
@pytest.mark.parametrize("copy", [0, 1])
def test_the_mean_direction_is_zero(direction, copy):
    steps = torch.stack([Displacement(direction)(BATCH, FrameRandom(0, n), None, copy) for n in range(200)]) / 0.05
    assert steps.mean((0, 1)).abs().max() < 5.0 / (3 * 200 * 24) ** 0.5


def fourth_moment(direction, copy):
    """Mean of the fourth power of a component of the unit vector, over 24 000 draws: good to 0.002."""
    crowd = collate([FRAMES[0]] * 100, 2.0, torch.float64)
    steps = [Displacement(direction)(crowd, FrameRandom(0, step), None, copy) / 0.05 for step in range(20)]
    return float(torch.stack(steps)[..., 2].pow(4).mean())


@pytest.mark.parametrize("copy", [0, 1])
def test_normal_is_uniform_on_the_sphere_and_uniform_prefers_the_corners_of_a_cube(copy):
    """1/5 on the sphere; less where directions crowd at the diagonals."""
    assert fourth_moment(NORMAL, copy) == pytest.approx(0.2, abs=0.006)
    assert fourth_moment(UNIFORM, copy) == pytest.approx(0.180, abs=0.006)


def test_further_copies_of_an_adversarial_direction_are_random():
    first, second = Displacement(TowardsDisagreement()).copies(2, BATCH, FrameRandom(0, 0), POTENTIAL)
    torch.testing.assert_close(second, Displacement().copies(2, BATCH, FrameRandom(0, 0), None)[1])
    assert not torch.allclose(first, second)


def test_drawn_lengths_are_one_a_structure_and_fill_the_interval():
    lengths = norms(many(Displacement(length=FixedLength(0.1), draw_length=True)))
    first = [part[:, :1] for part in lengths.split(SIZES, dim=1)]
    for part, one in zip(lengths.split(SIZES, dim=1), first, strict=True):
        torch.testing.assert_close(part, one.expand_as(part))
    assert not torch.allclose(first[0], first[1])
    assert 0.0 < float(lengths.min()) < 0.004
    assert 0.096 < float(lengths.max()) <= 0.1 * (1 + 1e-12)
    assert float(torch.cat(first).mean()) == pytest.approx(0.05, abs=0.005)


def test_a_probability_that_an_atom_moves():
    moved = norms(many(Displacement(probability=0.3))) > 0
    assert float(moved.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert (norms(many(Displacement(probability=0.3), count=5))[moved[:5]] > 0.04).all()


LINEAR = [frame("CO2", rattle=0.0), frame("C2H2", rattle=0.0, seed=1), frame("CO", rattle=0.0)]


@pytest.mark.parametrize("direction", [NORMAL, *ADVERSARIAL])
@pytest.mark.parametrize("norm", ["atom", "structure"])
def test_rigid_motion_is_removed(direction, norm):
    frames = [*FRAMES, *LINEAR]
    batch = collate(frames, 5.0, torch.float64)
    sizes = [len(one.species) for one in frames]
    for remove in ("translation", "rigid"):
        step = draw(Displacement(direction, FixedLength(0.1), norm=norm, remove=remove), batch=batch)
        for part, one in zip(step.split(sizes), frames, strict=True):
            arms = torch.from_numpy(one.positions - one.positions.mean(0))
            turn = torch.linalg.cross(arms, part).sum(0)
            assert part.mean(0).abs().max() < 1e-12
            if remove == "rigid":
                assert turn.abs().max() < 1e-9
            elif direction is NORMAL:
                assert turn.abs().max() > 1e-3
            assert part.abs().max() > 0.001


def test_what_rigid_removal_leaves_is_the_displacement_less_a_motion_of_the_whole():
    """The part that is taken out is a shift and a turn: it changes no distance to first order."""
    plain = draw(Displacement(length=FixedLength(0.01)))
    rest = draw(Displacement(length=FixedLength(0.01), remove="rigid"))
    for step, left, one in zip(plain.split(SIZES), rest.split(SIZES), FRAMES, strict=True):
        positions = torch.from_numpy(one.positions)
        arms = positions.unsqueeze(0) - positions.unsqueeze(1)

        def stretch(moves, arms=arms):
            return ((moves.unsqueeze(0) - moves.unsqueeze(1)) * arms).sum(-1)

        share = float((stretch(left) * stretch(step)).sum() / stretch(step).square().sum())
        assert 0.1 < share <= 1.0  # shortened, so that no atom moves by more than the length
        torch.testing.assert_close(stretch(left), share * stretch(step), rtol=1e-9, atol=1e-12)


def slab():
    atoms = oxide().atoms()
    atoms.pbc = (True, True, False)
    return Frame.from_atoms(atoms)


@pytest.mark.parametrize("structure", [oxide(), slab()])
def test_a_cell_loses_its_shift_but_cannot_turn(structure):
    batch = collate([structure], 5.0, torch.float64)
    found = [draw(Displacement(remove=remove), batch=batch) for remove in ("translation", "rigid")]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert found[0].mean(0).abs().max() < 1e-12


@pytest.mark.parametrize("remove", ["nothing", "translation", "rigid"])
@pytest.mark.parametrize("norm", ["atom", "structure"])
def test_a_single_atom_has_nothing_but_a_shift(remove, norm):
    batch = collate([frame("O"), frame("H2O")], 5.0, torch.float64)
    for direction in (NORMAL, *ADVERSARIAL):
        step = draw(Displacement(direction, norm=norm, remove=remove), batch=batch)
        assert torch.isfinite(step).all()
        assert float(step[0].norm()) == pytest.approx(0.05 if remove == "nothing" else 0.0, abs=1e-12)


@pytest.mark.parametrize("length", [FixedLength(0.2), FractionOfNearestNeighbor(0.25)])
@pytest.mark.parametrize("norm", ["atom", "structure"])
@pytest.mark.parametrize("remove", ["nothing", "translation", "rigid"])
def test_nothing_moves_farther_than_the_length_so_the_margin_is_safe(length, norm, remove):
    batch = collate([*FRAMES, *LINEAR, oxide()], 5.0, torch.float64)
    for options in ({}, {"draw_length": True}, {"probability": 0.4}):
        displacement = Displacement(length=length, norm=norm, remove=remove, **options)
        longest = many(displacement, batch, 20).norm(dim=-1)
        limit = length(batch) if norm == "atom" else torch.full_like(longest[0], length.largest)
        assert (longest <= limit * (1 + 1e-12)).all()
        assert 2.0 * float(longest.max()) <= displacement.margin * (1 + 1e-12)


@pytest.mark.parametrize(
    "displacement",
    [
        Displacement(),
        Displacement(UNIFORM, FractionOfNearestNeighbor(0.1), draw_length=True, probability=0.6, remove="rigid"),
        Displacement(TowardsDisagreement(), norm="structure"),
    ],
)
def test_draws_depend_on_seed_step_and_frame_and_on_nothing_else(displacement):
    alone = [
        draw(displacement, 4, collate([one], 5.0, torch.float64, [index]), seed=2) for index, one in enumerate(FRAMES)
    ]
    turned = collate(FRAMES[::-1], 5.0, torch.float64, [2, 1, 0])
    torch.testing.assert_close(draw(displacement, 4, seed=2), torch.cat(alone), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(draw(displacement, 4, turned, seed=2), torch.cat(alone[::-1]), rtol=1e-9, atol=1e-12)
    others = [
        draw(displacement, 5, seed=2),
        draw(displacement, 4, seed=3),
        draw(displacement, 4, seed=2, copy=1),
        draw(displacement, 4, collate(FRAMES, 5.0, torch.float64, [10, 11, 12]), seed=2),
    ]
    for other in others:
        assert float((other - torch.cat(alone)).abs().max()) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("forces", ["conservative", "direct"])
@pytest.mark.parametrize("direction", [NORMAL, *ADVERSARIAL])
def test_no_gradient_flows_through_displacements(direction, forces, dtype):
    potential = painn(forces)
    potential.network.to(dtype)
    batch = collate(FRAMES, 5.0, dtype)
    for step in Displacement(direction).copies(2, batch, FrameRandom(0, 0), potential):
        assert not step.requires_grad
        assert step.dtype == dtype
    assert all(weight.grad is None for weight in potential.parameters())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FixedLength(0.0), "length"),
        (lambda: FixedLength(1.5), "length"),
        (lambda: FractionOfNearestNeighbor(0.05, cap=0.0), "cap"),
        (lambda: FractionOfNearestNeighbor(0.05, cap=0.4), "cap"),
        (lambda: FractionOfNearestNeighbor(0.0), "nearest-neighbor"),
        (lambda: FractionOfNearestNeighbor(0.31), "cap"),
        (lambda: FractionOfNearestNeighbor(0.2, cap=0.1), "at most cap=0.1"),
        (lambda: Displacement(probability=0.0), "probability"),
        (lambda: Displacement(probability=1.1), "probability"),
    ],
)
def test_absurd_values_are_refused_in_one_line(make, said):
    with pytest.raises(ConfigError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_random_numbers_of_different_purposes_are_independent():
    numbers = FrameRandom(0, 0)
    first, second = (numbers.shares(BATCH, purpose, per_atom=True).numpy() for purpose in (1, 2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5
    assert not np.allclose(first, second)
