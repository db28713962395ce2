"""Files and directories of strangers: what is code runs only where the user asked for it."""

import json
import logging
import re
import shutil
import zipfile

import pytest
import torch
from ase.build import molecule
from torch import nn

import piwsl
from piwsl.errors import ModelFileError, RunDirectoryError
from piwsl.export import loading
from piwsl.export.exported_file import read_exported_info, save_exported
from piwsl.export.trained_file import load_trained
from piwsl.runs import known_code
from tests.support.models_for_tests import trained_file

ETHANOL = molecule("CH3CH2OH")
SHORT = {"timestep": 0.2, "trajectory_interval": 2, "report_interval": 2, "engine": "ase", "stop": ("none",)}


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    """Return a function that turns this process into one of another user, who knows no code."""

    def become(name="stranger"):
        monkeypatch.setenv(known_code.VARIABLE, str(tmp_path / f"cache-of-{name}"))
        # What a new process starts with; within a process, nothing but a test forgets what was named.
        monkeypatch.setattr(known_code, "_of_this_process", set())
        loading._announce_once.cache_clear()

    return become


@pytest.mark.slow
def test_a_run_directory_that_names_a_file_of_code(exports, stranger, tmp_path):
    """A colleague's directory whose summary names an exported file runs nothing until the user names the file."""
    code = tmp_path / "theirs.pt"
    shutil.copy(exports.openmm(), code)
    piwsl.run_md(ETHANOL, code, output=tmp_path / "run", steps=2, **SHORT)
    piwsl.run_md(output=tmp_path / "run", restart=True, steps=4)  # its user named the file before
    stranger()
    with pytest.raises(RunDirectoryError, match=r"theirs\.pt contains code that you have neither exported nor named"):
        piwsl.run_md(output=tmp_path / "run", restart=True, steps=6)
    assert piwsl.run_md(model=code, output=tmp_path / "run", restart=True, steps=6).completed
    assert piwsl.run_md(output=tmp_path / "run", restart=True, steps=8).completed  # named once is enough


@pytest.mark.slow
def test_an_exported_file_in_a_run_directory_is_made_again(stranger, tmp_path, caplog):
    """The file that a stranger put into the directory is not run; the trained file is exported again."""
    model = trained_file(tmp_path / "model.pt", channels=4, layers=1)
    piwsl.run_md(ETHANOL, model, output=tmp_path / "run", steps=2, **SHORT)
    planted = tmp_path / "run" / "exported.pt"
    good = read_exported_info(planted)
    info = {key: value for key, value in good.items() if key != "sha256"}
    save_exported(torch.jit.script(Plain()), info, planted)  # with valid hashes
    stranger()
    assert piwsl.run_md(output=tmp_path / "run", restart=True, steps=4).completed
    assert read_exported_info(planted)["trained_sha256"] == good["trained_sha256"]


class Plain(nn.Module):
    """A module that would end the run at once."""

    @torch.jit.export
    def evaluate(self, positions: torch.Tensor, cell: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        raise ValueError("the code of a stranger was run")

    def forward(self, positions: torch.Tensor, box: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        raise ValueError("the code of a stranger was run")


@pytest.mark.slow
def test_a_trained_model_that_was_exchanged(tmp_path):
    """The state and the summary record the hash of the model."""
    model = trained_file(tmp_path / "model.pt", channels=4, layers=1)
    piwsl.run_md(ETHANOL, model, output=tmp_path / "run", steps=2, **SHORT)
    trained_file(model, channels=4, layers=1, seed=7)
    with pytest.raises(RunDirectoryError, match="has changed since this run started"):
        piwsl.run_md(output=tmp_path / "run", restart=True, steps=4)
    summary = tmp_path / "run" / "summary.json"
    content = json.loads(summary.read_text())
    content["model"]["sha256"] = ""
    summary.write_text(json.dumps(content))
    with pytest.raises(RunDirectoryError, match="these differ: model"):
        piwsl.run_md(output=tmp_path / "run", restart=True, steps=4)


def test_a_line_at_load(exports, stranger, tmp_path, caplog):
    stranger()
    theirs = tmp_path / "theirs.pt"
    shutil.copy(exports.general(), theirs)
    line = rf"executing code from {theirs}, written by piwsl \d\S+ on \d{{4}}-\d\d-\d\d"
    for expected, level in (
        ("; the file is new to this user account: use exported files only from sources", "WARNING"),
        ("", "INFO"),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            piwsl.PiwslCalculator(theirs)
            piwsl.PiwslCalculator(theirs)
        (record,) = [record for record in caplog.records if "executing code from" in record.getMessage()]
        assert record.levelname == level
        assert re.match(line + expected, record.getMessage())
        known_code._of_this_process.clear()
        loading._announce_once.cache_clear()


def test_a_trained_file_with_code_inside_is_no_trained_file(tmp_path, exports):
    """`model.pt` is data: a TorchScript module of that name is refused where data are expected."""
    fake = tmp_path / "model.pt"
    shutil.copy(exports.general(), fake)
    with pytest.raises(ModelFileError, match="contains code"):
        load_trained(fake)
    with pytest.raises(ModelFileError, match="contains code"):
        piwsl.export_model(fake, tmp_path / "out.pt")


def test_a_pickle_inside_a_trained_file(tmp_path):
    """The tensors of a whole trained file, and an object that would run a command when it is unpickled."""

    class Command:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'touched'}",)

    good = trained_file(tmp_path / "good.pt", channels=4, layers=1)
    content = torch.load(good, weights_only=True)
    torch.save({**content, "check_frames": Command()}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="damaged or not a trained piwsl model"):
        load_trained(tmp_path / "model.pt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
@pytest.mark.compile
def test_a_package_with_another_library(exports, tmp_path):
    """A library whose constructor runs a command is put into a whole package; it is not loaded."""
    import subprocess

    good = exports.compiled_molecule()
    source = tmp_path / "evil.c"
    touched = tmp_path / "touched"
    source.write_text(
        f'#include <stdlib.h>\n__attribute__((constructor)) void run(void) {{ system("touch {touched}"); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "evil.so", source], check=True)
    bad = tmp_path / "bad.pt2"
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(bad, "w") as copy:
        for name in archive.namelist():
            evil = name.endswith(".so")
            copy.writestr(name, (tmp_path / "evil.so").read_bytes() if evil else archive.read(name))
    with pytest.raises(ModelFileError, match=r"\.so was changed after the export"):
        piwsl.PiwslCalculator(bad)
    assert not touched.exists()
    # A second library beside the right one, which a loader might take.
    more = tmp_path / "more.pt2"
    shutil.copy(good, more)
    with zipfile.ZipFile(more, "a") as archive:
        archive.write(tmp_path / "evil.so", f"{archive.namelist()[0].split('/')[0]}/data/aotinductor/model/a.so")
    with pytest.raises(ModelFileError, match=r"a\.so was changed after the export"):
        piwsl.PiwslCalculator(more)
    assert not touched.exists()


def test_a_folder_that_somebody_else_can_write_is_not_believed(monkeypatch, tmp_path):
    monkeypatch.setenv(known_code.VARIABLE, str(tmp_path / "cache"))
    # Stands for a new process each time: the memory of a process must not answer in place of the folder.
    monkeypatch.setattr(known_code, "_of_this_process", set())
    digest = "a" * 64
    known_code.remember(digest)
    monkeypatch.setattr(known_code, "_of_this_process", set())
    assert known_code.is_known(digest)
    assert (tmp_path / "cache" / "known_code").stat().st_mode & 0o777 == 0o700
    (tmp_path / "cache" / "known_code").chmod(0o777)
    assert not known_code.is_known(digest)
    assert not known_code.is_known("../../etc/passwd")
