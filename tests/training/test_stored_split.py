"""A resumed run keeps its split, and needs the data that it began with."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from piwsl.errors import DataError, RunDirectoryError
from piwsl.training.data import training_frames
from piwsl.training.run import run_training
from piwsl.training.stored_split import check_unchanged, stored_split, write_split


@pytest.mark.slow
def test_a_resumed_run_keeps_its_split(small, tmp_path):
    config = small("optimizer.steps=20")
    first = training_frames(config)
    run_training(config, tmp_path / "run", frames=training_frames(small("seed=5")))
    seen = []
    run_training(config, tmp_path / "run", resume=True, on_data=lambda frames: seen.append(frames.split))
    assert seen == [training_frames(small("seed=5")).split]
    assert seen[0] != first.split
    split = tmp_path / "run" / "split.json"
    assert stored_split(Path(tmp_path / "none.json")) is None
    split.write_text(split.read_text().replace("]", ", 99]", 1))
    with pytest.raises(DataError, match="fewer than the split of this run requires"):
        run_training(config, tmp_path / "run", resume=True)
    split.write_text("{")
    with pytest.raises(RunDirectoryError, match="damaged"):
        run_training(config, tmp_path / "run", resume=True)


def test_a_resumed_run_needs_the_data_that_it_began_with(small, water_file, tmp_path):
    data = tmp_path / "data.npz"
    data.write_bytes(Path(water_file).read_bytes())
    frames = training_frames(small(f"data.file={data}"))
    split = tmp_path / "split.json"
    check_unchanged(split, frames)  # nothing was written yet
    write_split(split, frames)
    assert stored_split(split) == frames.split
    check_unchanged(split, frames)
    with np.load(data) as archive:
        content = dict(archive)
    for key in ("coords", "energies", "forces"):
        content[key] = content[key][::-1]  # the same frames in another order
    np.savez(data, **content)
    with pytest.raises(RunDirectoryError, match="the data of this run changed since it began"):
        check_unchanged(split, training_frames(small(f"data.file={data}")))
    split.write_text(json.dumps(asdict(frames.split)))  # as earlier versions wrote it
    check_unchanged(split, training_frames(small(f"data.file={data}")))
