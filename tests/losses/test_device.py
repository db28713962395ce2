"""On a GPU every option gives what it gives on the processor."""

import pytest
import torch

from piwsl.data.batch import collate
from piwsl.losses import (
    FrameRandom,
    Objective,
    WeightedTerm,
)
from tests.support.molecules import frame, oxide
from tests.support.objectives import DISPLACEMENTS, TERMS
from tests.support.potentials import painn

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")]


@pytest.mark.parametrize("displacement", DISPLACEMENTS)
@pytest.mark.parametrize("forces", ["conservative", "direct"])
def test_a_gpu_gives_the_losses_and_gradients_of_the_processor(displacement, forces):
    objective = Objective([WeightedTerm(term, 1.0) for term in TERMS], displacement)
    batch = collate([frame("CH3CHO", labeled=True), oxide(labeled=True)], 3.0 + objective.margin, torch.float64)
    results = []
    for device in ("cpu", "cuda"):
        potential = painn(forces).to(device)
        loss, _ = objective(potential, batch.to(device), FrameRandom(0, 0))
        loss.backward()
        slopes = [weight.grad.flatten().cpu() for weight in potential.parameters() if weight.grad is not None]
        results.append((loss.detach().cpu(), torch.cat(slopes)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-7, atol=1e-8)
