"""How an earlier run may go on."""

import pytest

from piwsl.errors import ConfigError, RunDirectoryError
from piwsl.models import import_modules
from piwsl.runs.config import to_yaml
from piwsl.training.directory import continuation
from piwsl.training.run import finish_training, train


@pytest.fixture
def earlier(small, tmp_path):
    """A directory whose run had these settings."""

    def begun(*overrides):
        (tmp_path / "config.yaml").write_text(to_yaml(small(*overrides)))
        return tmp_path

    return begun


def test_nothing_to_go_on_with(small, tmp_path):
    with pytest.raises(RunDirectoryError, match="contains no training run to resume"):
        continuation(small(), tmp_path)


def test_the_newest_checkpoint_if_there_is_one(small, earlier):
    directory = earlier()
    assert continuation(small(), directory).checkpoint is None
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "last.ckpt").touch()
    found = continuation(small(), directory)
    assert found.checkpoint == directory / "checkpoints" / "last.ckpt"
    assert found.notes == ()


def test_what_changes_the_result_is_listed_and_refused(small, earlier):
    directory = earlier("loss.pitc=1", "threads=1")
    with pytest.raises(RunDirectoryError) as error:
        continuation(small("loss.pitc=2", "seed=4", "threads=2"), directory)
    text = str(error.value)
    assert "loss.pitc was 1.0, is 2.0; seed was 0, is 4" in text
    assert "threads" not in text
    with pytest.raises(RunDirectoryError, match=r"loss\.pitc was 1\.0, is None; loss\.pitc\.shape was None, is linear"):
        continuation(small("loss.pitc.shape=linear"), directory)


def test_what_decides_only_the_speed_may_change(small, earlier):
    directory = earlier("threads=1")
    found = continuation(small("threads=2", "accelerator=cpu", "data.workers=3"), directory)
    assert set(found.notes) == {
        "resumed: threads was 1, is 2",
        "resumed: accelerator was auto, is cpu",
        "resumed: data.workers was 0, is 3",
    }


@pytest.mark.parametrize("schedule", ["constant", "plateau", "step"])
def test_more_steps_unless_the_schedule_depends_on_them(small, earlier, schedule):
    settings = f"optimizer.schedule={schedule}"
    directory = earlier(settings, "optimizer.steps=30")
    assert continuation(small(settings, "optimizer.steps=40"), directory).notes == (
        "resumed: optimizer.steps was 30, is 40",
    )
    with pytest.raises(RunDirectoryError, match=r"optimizer\.steps was 30, is 20: restore"):
        continuation(small(settings, "optimizer.steps=20"), directory)
    directory = earlier("optimizer.steps=30")
    with pytest.raises(RunDirectoryError, match="the cosine schedule depends on this value"):
        continuation(small("optimizer.steps=40"), directory)


CALLS = {
    "resume": lambda directory, _: train(output=directory, resume=True),
    "finish": lambda directory, _: finish_training(directory),
    "settings": lambda directory, config: continuation(config, directory),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_directory_of_somebody_else_executes_none_of_its_modules(call, small, earlier, tmp_path, monkeypatch):
    """An import also searches the current directory, which may be the one of the run."""
    directory, module = earlier(), f"brought_along_{call}"
    text = (directory / "config.yaml").read_text()
    (directory / "config.yaml").write_text(text.replace("imports: []", f"imports: [{module}]"))
    assert module in (directory / "config.yaml").read_text()
    (directory / f"{module}.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    (directory / "split.json").write_text("{}")
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "best.ckpt").touch()
    monkeypatch.chdir(directory)
    with pytest.raises(ConfigError, match=rf"the code of {module} must be executed: if you trust the code, import"):
        CALLS[call](directory, small())
    assert not (directory / "executed").exists()
    monkeypatch.syspath_prepend(tmp_path)
    import_modules([module])  # what the user imports may be named in the directory
    assert continuation(small(f"imports=[{module}]"), directory).notes == ()
