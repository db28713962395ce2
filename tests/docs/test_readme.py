"""The commands and the Python example of README.md run, in order, in a temporary directory.

`SHORTER`, `ADDED` and `SHORTER_PYTHON` make them short; `user_files` writes the files of a user.
"""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from piwsl.cli.main import run
from piwsl.data.read import source_name
from piwsl.data.systems import RESOURCES, named_system
from piwsl.units import KCAL_PER_MOL
from tests.support.pages import COMPUTED, DOCS, ROOT, console, fences, find_command, require, spans

# Values of options in the commands of README.md -> values for the test.
SHORTER = {("md", "--steps"): "400"}
# Words added to the commands of README.md; the last value given for a key counts.
ADDED = {
    "learn": ["--init-from", "scratch", "--dry-run"],
    "train": [
        word
        for setting in (
            "data.train=40",
            "data.validation=10",
            "data.test=10",
            "model.channels=8",
            "model.layers=1",
            "optimizer.steps=20",
            "optimizer.batch_size=4",
            "optimizer.validation_interval=10",
            "threads=1",
        )
        for word in ("-o", setting)
    ],
}
# Text of the Python example -> text for the test.
SHORTER_PYTHON = {
    'output="model")': 'output="model", options=OPTIONS)',
    "export_model(result.model,": "export_model(BUNDLED_MODEL,",
    "steps=100_000": "steps=400",
}
USER_FRAMES = 100


def type_command(line: str) -> None:
    """Run a command of piwsl, shortened, in the working directory.

    A model from 20 steps of training is no potential: once `piwsl train` has written its model.pt, the bundled model
    takes its place.
    """
    program, *words = shlex.split(line.replace(".venv/bin/", ""))
    if program != "piwsl":
        return  # make and pip made the environment that this test runs in
    title, command, _ = find_command(words)
    for (shortened, option), value in SHORTER.items():
        if title == shortened and option in words:
            words[words.index(option) + 1] = value
    words += ADDED.get(title, [])
    code = 0
    try:
        run(words)
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 0, f"{line} (as {shlex.join(words)}): exit code {code}"
    if title == "train":
        given = command.make_context(title, words[1:]).params
        source = given["system"] or source_name(given["data_file"])
        model = (given["output"] or Path("runs") / f"train-{source}") / "model.pt"
        assert model.is_file()
        shutil.copyfile(named_system("aspirin").model, model)


def user_files(folder: Path) -> None:
    """Write the files of a user that README.md names: bundled frames in kcal/mol, and a structure."""
    aspirin = named_system("aspirin")
    with np.load(aspirin.train) as bundled:
        np.savez(
            folder / "rmd17_aspirin.npz",
            nuclear_charges=bundled["nuclear_charges"],
            coords=bundled["coords"][:USER_FRAMES],
            energies=bundled["energies"][:USER_FRAMES] / KCAL_PER_MOL,
            forces=bundled["forces"][:USER_FRAMES] / KCAL_PER_MOL,
        )
    shutil.copyfile(aspirin.structure_file, folder / "aspirin.xyz")


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path, monkeypatch):
    require(*(file for file in COMPUTED if file.parent == RESOURCES))
    user_files(tmp_path)
    # Paths of the repository work as they do at its root; these are copies, so that nothing is written there.
    for folder in ("piwsl/resources", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in RESOURCES.iterdir())
    for line in console(ROOT / "README.md"):
        type_command(line)
    summaries = [json.loads(path.read_text()) for path in tmp_path.rglob("summary.json")]
    keys = {key for summary in summaries if "engine" in summary for key in summary}
    assert keys
    assert keys <= set(spans(DOCS / "files.md"))
    assert sorted(path.name for path in RESOURCES.iterdir()) == before


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch):
    require(*(file for file in COMPUTED if file.parent == RESOURCES))
    example = next(block for block in fences(ROOT / "README.md", "python") if "piwsl.train(" in block)
    for text, shorter in SHORTER_PYTHON.items():
        assert text in example
        example = example.replace(text, shorter)
    options = dict(word.split("=") for word in ADDED["train"] if word != "-o")
    names = {
        "OPTIONS": {key: int(value) for key, value in options.items()},
        "BUNDLED_MODEL": named_system("aspirin").model,
    }
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), names)
    assert names["run"].completed
    assert (tmp_path / "analysis" / "report.html").is_file()
