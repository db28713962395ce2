"""Every key of the loss and displacement sections decides something of the objective."""

import pytest
import torch

from piwsl.data.batch import collate
from piwsl.errors import ConfigError
from piwsl.losses import FrameRandom, Teacher, TowardsDisagreement, TowardsEnergyError, TowardsForceError
from piwsl.losses.contrast import ChainSettings
from piwsl.runs.config import validate
from piwsl.training.config import DisplacementConfig, LossConfig, ScheduleConfig, TeacherConfig, TrainingConfig
from piwsl.training.objective import build_contrast, build_displacement, build_objective
from tests.support.molecules import frame, oxide
from tests.support.potentials import painn

FRAMES = [frame("H2O", labeled=True), oxide(labeled=True), frame("CH4", seed=2, labeled=True)]
STEPS = range(3)

# A configuration in which every term acts, and for each key a value that must change the losses of the first steps.
BASE = LossConfig(
    forces=1.0,
    stress=1.0,
    pitc=1.0,
    pisc=1.0,
    pitc_back=1.0,
    pisc_paths=1.0,
    noisy_node=1.0,
    taylor_labels=1.0,
    teacher_forces=1.0,
    teacher_pitc=1.0,
    teacher_curvature=1.0,
    mixing=0.0,
    error="huber",
)
LOSS_CHANGES = {
    "energy": 2.0,
    "forces": 2.0,
    "stress": 2.0,
    "pitc": 2.0,
    "pisc": 2.0,
    "pitc_back": 2.0,
    "pisc_paths": 2.0,
    "noisy_node": 2.0,
    "taylor_labels": 2.0,
    "teacher_forces": 2.0,
    "teacher_pitc": 2.0,
    "teacher_curvature": 2.0,
    "mixing": 0.1,
    "error": "mae",
    "huber_delta": 1e-5,
    "detach": "target",
    "per_atom": True,
    "cadence": 2,
    "warmup": 1,
}
ON_ALL = TeacherConfig(frames="all")
DISPLACEMENT_CHANGES = {
    "direction": ["uniform", "force_error", "energy_error", "disagreement"],
    "length": [0.1],
    "measure": ["nearest_neighbor"],
    "norm": ["structure"],
    "draw_length": [True],
    "probability": [0.5],
    "remove": ["translation", "rigid"],
}


def fingerprint(loss, displacement=DisplacementConfig(), teaching=ON_ALL):  # noqa: B008 (frozen)
    """Losses and gradients of a few steps."""
    teacher = Teacher([painn(seed=7).requires_grad_(False)], 3.0, 3.0)
    objective = build_objective(loss, displacement, teacher=teacher, teaching=teaching)
    potential = painn(layers=1)
    potential.reference_energies.zero_()
    batch = collate(FRAMES, 3.0 + objective.margin, torch.float64)
    numbers = []
    for step in STEPS:
        potential.zero_grad()
        total, _ = objective(potential, batch, FrameRandom(0, step))
        total.backward()
        numbers += [float(total.detach()), *(float(weight.grad.norm()) for weight in potential.parameters())]
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.fixture(scope="module")
def base():
    return fingerprint(BASE)


@pytest.mark.parametrize("key", [key for key in LossConfig.model_fields if key in LOSS_CHANGES])
def test_every_key_of_the_losses_has_an_effect(key, base):
    changed = BASE.model_copy(update={key: LOSS_CHANGES[key]})
    assert not torch.allclose(fingerprint(changed), base, rtol=1e-8)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, many in DISPLACEMENT_CHANGES.items() for value in many]
)
def test_every_key_of_the_displacement_has_an_effect(key, value, base):
    found = fingerprint(BASE, DisplacementConfig(**{key: value}))
    assert not torch.allclose(found, base, rtol=1e-8)


@pytest.mark.parametrize("change", [{"frames": "without_forces"}, {"target": "work"}])
def test_every_key_of_the_teacher_has_an_effect(change, base):
    found = fingerprint(BASE, teaching=ON_ALL.model_copy(update=change))
    assert not torch.allclose(found, base, rtol=1e-8)


def test_no_key_is_forgotten_here():
    # The contrast moves chains of its own, see below; the preset sets empty coefficients, see test_presets.py.
    assert {*LOSS_CHANGES, "contrast", "preset"} == set(LossConfig.model_fields)
    # The cap refuses, see below and `check_displacement`; it changes no length.
    assert {*DISPLACEMENT_CHANGES, "cap"} == set(DisplacementConfig.model_fields)


def test_terms_and_margin_of_the_paper():
    objective = build_objective(LossConfig(pitc=1.0, pisc=0.01), DisplacementConfig())
    found = {one.term.name: one.at(0) for one in objective.terms}
    assert found == {"energy": 1.0, "forces": 100.0, "pitc": 1.0, "pisc": 0.01}
    assert objective.margin == pytest.approx(0.1)


@pytest.mark.parametrize("shape", ["linear", "cosine", "step"])
def test_a_coefficient_may_be_a_schedule(shape):
    schedule = ScheduleConfig(shape=shape, first=0.0, last=2.0, begin=10, end=20)
    objective = build_objective(LossConfig(pitc=schedule, pisc=0.0), DisplacementConfig())
    assert [len(objective.acting(step)) for step in (0, 10, 20)] == [2, 2, 3]
    assert {one.term.name: value for one, value in objective.acting(20)}["pitc"] == 2.0
    middle = [value for one, value in objective.acting(15) if one.term.name == "pitc"]
    assert middle == ([] if shape == "step" else [pytest.approx(1.0)])


def test_a_schedule_that_is_always_zero_leaves_its_term_out():
    never = ScheduleConfig(first=0.0, last=0.0)
    objective = build_objective(LossConfig(pitc=never, pisc=never), DisplacementConfig())
    assert [one.term.name for one in objective.terms] == ["energy", "forces"]
    assert objective.copies == 0


def test_noisy_node_has_the_coefficients_of_the_supervised_terms():
    loss = LossConfig(energy=2.0, forces=0.0, pitc=0.0, pisc=0.0, noisy_node=0.5)
    objective = build_objective(loss, DisplacementConfig())
    (noisy,) = (one.term for one in objective.terms if one.term.name == "noisy_node")
    assert [(term.name, weight) for term, weight in noisy.terms] == [("energy", 2.0)]
    assert noisy.request.forces == frozenset()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("force_error", TowardsForceError), ("energy_error", TowardsEnergyError), ("disagreement", TowardsDisagreement)],
)
def test_adversarial_directions_by_name(name, kind):
    assert isinstance(build_displacement(DisplacementConfig(direction=name)).direction, kind)


def test_a_share_beyond_the_cap_is_refused():
    config = DisplacementConfig(measure="nearest_neighbor", length=0.2, cap=0.1)
    with pytest.raises(ConfigError, match=r"share=0\.2 .*at most cap=0\.1"):
        build_displacement(config)


@pytest.mark.parametrize(
    "values",
    [
        {"loss": {"mixing": 0.6}},
        {"loss": {"mixing": -0.1}},
        {"loss": {"pitc": -1.0}},
        {"loss": {"error": "rmse"}},
        {"loss": {"huber_delta": 0.0}},
        {"loss": {"cadence": 0}},
        {"loss": {"pitc": {"first": 1.0, "shape": "square"}}},
        {"displacement": {"length": 0.0}},
        {"displacement": {"cap": 0.31}},
        {"displacement": {"probability": 0.0}},
        {"displacement": {"direction": "adversarial"}},
    ],
)
def test_values_out_of_range_are_refused_in_one_line(values):
    with pytest.raises(ConfigError) as error:
        validate(TrainingConfig, values)
    section, keys = next(iter(values.items()))
    assert f"{section}.{next(iter(keys))}" in str(error.value)
    assert "\n" not in str(error.value)


CONTRAST = {
    "loss": {"contrast": {"first": 0.0, "last": 0.4, "end": 100}},
    "contrast": {"temperature": 300, "chains": 3, "timestep": 0.25, "friction": 0.1, "lifetime": 7},
}


def test_the_contrast_follows_its_section():
    term = build_contrast(validate(TrainingConfig, CONTRAST, "test"), FRAMES, rank=0, processes=1)
    assert term.settings == ChainSettings(chains=3, temperature=300, timestep=0.25, friction=0.1, lifetime=7)
    assert (term.at(0), term.at(50), term.at(200)) == (0.0, pytest.approx(0.2), 0.4)
    assert len(term.chains) == 3
    assert build_contrast(TrainingConfig(), FRAMES, rank=0, processes=1) is None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"loss": {"contrast": 1.0}}, "set contrast.temperature to the temperature of the training frames, in K"),
        ({**CONTRAST, "model": {"forces": "direct"}}, "direct forces have no energy distribution"),
    ],
)
def test_a_contrast_that_has_no_distribution_is_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        build_contrast(validate(TrainingConfig, settings, "test"), FRAMES, rank=0, processes=1)
