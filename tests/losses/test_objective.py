import torch

from piwsl.data.batch import collate
from piwsl.losses import PISC, PITC, EnergyMAE, Objective, RandomDisplacement, WeightedTerm
from tests.molecules import HarmonicField, frame


class Counting(HarmonicField):
    def __init__(self):
        self.calls = []

    def __call__(self, batch):
        self.calls.append(batch.n_structures)
        return super().__call__(batch)


def objective(**options):
    return Objective(
        [WeightedTerm(EnergyMAE(), 1.0)],
        [WeightedTerm(PITC(mixing=0.0), 2.0), WeightedTerm(PISC(mixing=0.0), 3.0)],
        RandomDisplacement(0.05),
        **options,
    )


def test_all_copies_go_through_the_model_in_one_call():
    model = Counting()
    batch = collate([frame("H2O", labelled=True), frame("CH4", labelled=True)], 5.0, torch.float64)
    loss, parts = objective()(model, batch, 0, torch.Generator().manual_seed(0))
    assert model.calls == [6]
    assert set(parts) == {"energy", "pitc", "pisc"}
    assert float(loss) == float(parts["energy"] + 2.0 * parts["pitc"] + 3.0 * parts["pisc"])
    assert all(float(value) > 0 for value in parts.values())


def test_cadence_and_warmup():
    scheduled = objective(cadence=3, warmup=4)
    assert [step for step in range(12) if scheduled.consistency_acts(step)] == [4, 7, 10]
    model = Counting()
    batch = collate([frame("H2O", labelled=True)], 5.0, torch.float64)
    _, parts = scheduled(model, batch, 5, torch.Generator())
    assert model.calls == [1]
    assert set(parts) == {"energy"}


def test_consistency_needs_no_label():
    batch = collate([frame("H2O")], 5.0, torch.float64)
    loss, parts = objective()(Counting(), batch, 0, torch.Generator().manual_seed(0))
    assert set(parts) == {"pitc", "pisc"}
    assert torch.isfinite(loss)
