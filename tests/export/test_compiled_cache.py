"""The cache of compiled files: what is used again, what is not, and what happens to it."""

import logging
import os
import shutil

import numpy as np
import pytest

from piwsl.cli.main import run
from piwsl.data.frames import Frame, FrameSet
from piwsl.export import compiled_cache
from piwsl.export.compiled_cache import clear, compile_or_copy, entries
from piwsl.export.exporter import Exporter
from piwsl.training.walls import ranges_of_molecule
from tests.support.compilation import compile_as_torchscript
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

WATER = frame("H2O")


@pytest.fixture(autouse=True)
def private(tmp_path, monkeypatch):
    monkeypatch.setenv("PIWSL_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def compiled(monkeypatch):
    """Structures for which a file was made."""
    return compile_as_torchscript(monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return trained_file(tmp_path_factory.mktemp("model") / "model.pt", layers=1, channels=4)


def test_the_second_file_for_the_same_model_and_atoms_is_a_copy(model, compiled, tmp_path, caplog):
    caplog.set_level(logging.INFO, "piwsl")
    other = Frame.from_atoms(frame("H2O", seed=5).atoms())  # other positions do not matter
    for number, structure in enumerate((WATER, other)):
        compile_or_copy(Exporter([model]), structure, tmp_path / f"{number}.pt2")
    assert len(compiled) == 1
    assert (tmp_path / "0.pt2").read_bytes() == (tmp_path / "1.pt2").read_bytes()
    assert "using a file that was compiled earlier" in caplog.text


def test_another_model_order_charge_precision_processor_or_number_of_copies_is_compiled(
    model, compiled, tmp_path, monkeypatch
):
    def make(exporter=None, structure=WATER, copies=1):
        compile_or_copy(exporter or Exporter([model]), structure, tmp_path / "out.pt2", copies)
        return len(compiled)

    assert make() == 1
    assert make(Exporter([trained_file(tmp_path / "other.pt", layers=1, channels=4, seed=3)])) == 2
    assert make(Exporter([model], dtype="float64")) == 3
    assert make(structure=WATER.reordered(np.array([1, 0, 2]))) == 4
    assert make(copies=2) == 5
    assert make() == 5
    monkeypatch.setattr(compiled_cache, "_processor", lambda: "model name: another")
    assert make() == 6


def test_equal_elements_in_another_order_are_compiled_for_walls(compiled, tmp_path):
    """The species are equal, but the code contains the walls of each pair of atoms."""
    ranges = ranges_of_molecule(FrameSet([frame("CH3CH2OH", seed=seed) for seed in range(5)]))
    walled = trained_file(tmp_path / "walled.pt", frames=("CH3CH2OH",), layers=1, channels=4, walls=ranges)
    ethanol = frame("CH3CH2OH")
    exporter = Exporter([walled])
    order = np.arange(9)
    order[[3, 8]] = order[[8, 3]]  # hydrogens of different groups
    swapped = ethanol.reordered(order)
    assert swapped.species.tolist() == ethanol.species.tolist()
    for structure in (ethanol, swapped):
        compile_or_copy(exporter, structure, tmp_path / "out.pt2")
    assert len(compiled) == 2


@pytest.mark.parametrize("change", ["damaged", "empty", "of another user"])
def test_a_file_that_cannot_be_trusted_is_replaced(model, compiled, tmp_path, caplog, change):
    caplog.set_level(logging.INFO, "piwsl")
    compile_or_copy(Exporter([model]), WATER, tmp_path / "first.pt2")
    (entry,) = entries()
    content = bytearray(entry.path.read_bytes())
    if change == "of another user":
        shutil.rmtree(tmp_path / "cache" / "known_code")
        compiled_cache.remember.__globals__["_of_this_process"].clear()
    else:
        content[len(content) // 2] ^= 1
        entry.path.write_bytes(b"" if change == "empty" else bytes(content))
    compile_or_copy(Exporter([model]), WATER, tmp_path / "second.pt2")
    assert len(compiled) == 2
    assert "not used" in caplog.text
    assert "the model is compiled again" in caplog.text
    compile_or_copy(Exporter([model]), WATER, tmp_path / "third.pt2")
    assert len(compiled) == 2


def test_without_a_private_folder_nothing_is_kept(model, compiled, tmp_path):
    (tmp_path / "cache").touch()
    for _ in range(2):
        compile_or_copy(Exporter([model]), WATER, tmp_path / "out.pt2")
    assert len(compiled) == 2
    assert entries() == []


def test_the_files_that_were_not_used_for_longest_are_removed(model, compiled, tmp_path, monkeypatch):
    for copies in (2, 3, 4):
        compile_or_copy(Exporter([model]), WATER, tmp_path / "out.pt2", copies)
        for entry in entries():
            os.utime(entry.path, (1e9 + 100 * copies,) * 2) if "4 copies" not in entry.content else None
    sizes = sum(entry.size for entry in entries())
    (oldest,) = (entry for entry in entries() if "2 copies" in entry.content)
    os.utime(oldest.path, (1e9, 1e9))
    monkeypatch.setattr(compiled_cache, "LARGEST", sizes)
    compile_or_copy(Exporter([model]), WATER, tmp_path / "out.pt2", 5)
    assert not oldest.path.exists()
    assert sum(entry.size for entry in entries()) <= sizes
    assert "5 copies" in entries()[0].content


def test_the_command_lists_and_clears(model, compiled, tmp_path, capsys):
    compile_or_copy(Exporter([model]), WATER, tmp_path / "out.pt2")

    def command(name):
        with pytest.raises(SystemExit) as error:
            run(["cache", name])
        assert error.value.code == 0
        return capsys.readouterr().out

    assert "H2O, painn" in command("list")
    assert command("list").splitlines()[-1].startswith("1 files, ")
    assert command("clear").startswith("removed: 1 files, ")
    assert command("list") == "0 files, 0.0 MB\n"
    assert clear() == (0, 0)


def test_a_cache_that_is_cleared_while_a_file_is_copied_stays_empty(compiled, monkeypatch, tmp_path):
    exporter = Exporter([trained_file(tmp_path / "model.pt", layers=1, channels=4)])
    compile_or_copy(exporter, WATER, tmp_path / "first.pt2")
    load = compiled_cache.load_verified

    def cleared(path):
        clear()
        return load(path)

    monkeypatch.setattr(compiled_cache, "load_verified", cleared)
    compile_or_copy(exporter, WATER, tmp_path / "second.pt2")
    assert (tmp_path / "second.pt2").read_bytes() == (tmp_path / "first.pt2").read_bytes()
    assert entries() == []
