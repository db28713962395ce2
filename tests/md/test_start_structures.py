"""What a start structure contains besides positions: velocities, and directions without a period."""

import logging

import numpy as np
import pytest

from piwsl.md.run import run_md
from tests.support.models_for_tests import trained_file
from tests.support.molecules import oxide


def test_velocities_that_are_not_used_are_reported(ethanol, make_model, tmp_path, caplog):
    model = make_model(ethanol)
    with caplog.at_level(logging.WARNING):
        run_md(ethanol, model, output=tmp_path / "a", steps=2, progress=False)
        assert "velocities of the structure" not in caplog.text
        ethanol.set_velocities(np.full((9, 3), 0.01))
        run_md(ethanol, model, output=tmp_path / "b", steps=2, temperature=300, seed=4, progress=False)
    assert "velocities of the structure are not used: new ones are drawn at 300 K with seed 4" in caplog.text


@pytest.mark.slow
def test_a_slab_runs_from_a_trained_file(tmp_path):
    slab = oxide().atoms()
    slab.pbc = (True, True, False)
    model = trained_file(tmp_path / "model.pt")
    run = run_md(slab, model, output=tmp_path / "run", engine="ase", steps=2, progress=False, stop=("contact:off",))
    assert run.summary.result == "completed"
