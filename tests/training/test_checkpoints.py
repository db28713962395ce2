"""Damaged checkpoints and replay frames are refused before anything uses them."""

import zipfile

import pytest
import torch

import piwsl
from piwsl.compat.torch import torch_bytes
from piwsl.data.frames import FrameSet
from piwsl.errors import RunDirectoryError
from piwsl.training.checkpoints import best_weights, check_checkpoints, read_tensors
from piwsl.training.fit import AtomicCheckpointIO
from piwsl.training.replay import stored_replay, write_replay
from piwsl.training.run import run_training
from tests.support.molecules import frame


def flip(path):
    """Flip one bit in the middle of the largest member of an archive."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        data = archive.read(largest)
    content[content.index(data) + len(data) // 2] ^= 0x40
    path.write_bytes(content)


EMPTY = {"state_dict": {}, "global_step": 0, "epoch": 0, "optimizer_states": [], "loops": {}}


@pytest.fixture
def checkpoints(tmp_path):
    """Directory of a run with two intact checkpoints."""
    (tmp_path / "checkpoints").mkdir()
    state = {**EMPTY, "state_dict": {"potential.weight": torch.arange(1000.0)}}
    for name in ("last", "best"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").write_bytes(torch_bytes(state))
    return tmp_path


def test_intact_checkpoints_are_read(checkpoints):
    check_checkpoints(checkpoints)
    assert torch.equal(best_weights(checkpoints)["weight"], torch.arange(1000.0))


@pytest.mark.parametrize(
    ("name", "advice"), [("last", "finish_training"), ("best", "model.pt beside checkpoints contains the same weights")]
)
def test_a_flipped_bit_is_refused(checkpoints, name, advice):
    path = checkpoints / "checkpoints" / f"{name}.ckpt"
    flip(path)
    reads = (read_tensors, AtomicCheckpointIO().load_checkpoint, lambda path: check_checkpoints(checkpoints))
    for read in (*reads, *([lambda path: best_weights(checkpoints)] if name == "best" else [])):
        with pytest.raises(RunDirectoryError, match=rf"{name}\.ckpt: damaged.*{advice}") as error:
            read(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        [1.0],
        {name: part for name, part in EMPTY.items() if name != "state_dict"},
        {**EMPTY, "state_dict": {"weight": "text"}},
        {**EMPTY, "global_step": "7"},
        {**EMPTY, "optimizer_states": {}},
    ],
)
def test_other_content_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "best.ckpt"
    path.write_bytes(torch_bytes(content))
    with pytest.raises(RunDirectoryError, match=r"best\.ckpt: damaged or not a file of a training run \(no \w+\): "):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_flipped_bit_in_replay_frames_is_refused(tmp_path):
    write_replay(FrameSet([frame("H2O")] * 20), tmp_path / "replay.pt")
    assert len(stored_replay(tmp_path / "replay.pt")) == 20
    flip(tmp_path / "replay.pt")
    with pytest.raises(RunDirectoryError, match=r"replay\.pt: damaged.*: start a new run"):
        stored_replay(tmp_path / "replay.pt")


@pytest.mark.slow
def test_a_run_with_a_damaged_checkpoint_is_not_continued(small, tmp_path):
    run_training(small("optimizer.schedule=constant"), tmp_path / "run")
    flip(tmp_path / "run" / "checkpoints" / "best.ckpt")
    with pytest.raises(RunDirectoryError, match=r"best\.ckpt: damaged"):
        piwsl.finish_training(tmp_path / "run")
    longer = small("optimizer.schedule=constant", "optimizer.steps=80")
    with pytest.raises(RunDirectoryError, match=r"best\.ckpt: damaged"):
        run_training(longer, tmp_path / "run", resume=True)
