"""Labels for given structures: real methods, faults, kills."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from filelock import FileLock

from piwsl import PiwslCalculator
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.labeling.single_point import Failure, SinglePoint, single_point
from piwsl.data.labeling.structures import LabelStore, label_frames
from piwsl.data.read import read_frames
from piwsl.errors import ConfigError, DataError, ModelFileError, RunDirectoryError
from piwsl.runs.executors import LocalProcesses
from tests.support import faulty_calculators
from tests.support.executors import HERE
from tests.support.models_for_tests import trained_file
from tests.support.molecules import frame

SPRINGS = "tests.support.faulty_calculators:Springs"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # for the worker processes


def numbered(count):
    """Structures that say which they are, with labels that must not matter."""
    frames = [frame("H2O", seed=index, labeled=True) for index in range(count)]
    for index, structure in enumerate(frames):
        structure.positions[0, 0] = index
    return FrameSet(frames, Path("water"))


def test_labels_are_those_of_the_method_in_their_order(tmp_path):
    names = ["H2O", "CH4", "H2O", "NH3", "CH3CH2OH"]
    frames = FrameSet([frame(name, seed=seed, labeled=True) for seed, name in enumerate(names)])
    calls = []
    labeled = label_frames(frames, "gfn2-xtb", tmp_path / "job", where=HERE, progress=lambda *a: calls.append(a))
    assert labeled.failures == {}
    assert calls[0] == (0, 5)
    assert calls[-1] == (5, 5)
    result = read_frames(labeled.file)
    assert result.notes == ()  # the labels stand under the keys of the ecosystem
    for before, after in zip(frames, result, strict=True):
        atoms = before.atoms()
        assert np.array_equal(after.species, before.species)
        assert np.allclose(after.positions, atoms.positions, atol=1e-8)
        atoms.calc = reference_calculator("gfn2-xtb")
        assert after.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        assert np.allclose(after.forces, atoms.get_forces(), atol=1e-7)
        assert not after.has_stress
    summary = json.loads((tmp_path / "job" / "summary.json").read_text())
    assert summary["labeled"] == 5
    assert summary["units"] == "eV, angstrom"
    assert summary["versions"]["tblite"]


def test_a_label_does_not_depend_on_the_structure_before():
    one, two = frame("H2O", seed=1), frame("CH3CH2OH", seed=2)
    alone = single_point("gfn2-xtb", {}, one)
    single_point("gfn2-xtb", {}, two)
    again = single_point("gfn2-xtb", {}, one)
    assert alone.energy == pytest.approx(again.energy, abs=1e-10)


def test_gfn1_is_another_method_and_options_count():
    water = frame("H2O")
    gfn2 = single_point("gfn2-xtb", {}, water).energy
    gfn1 = single_point("gfn1-xtb", {}, water).energy
    cation = single_point("gfn2-xtb", {"charge": 1, "multiplicity": 2}, water).energy
    assert abs(gfn1 - gfn2) > 10  # eV
    assert 5 < cation - gfn2 < 25  # the ionization energy of water is 12.6 eV


def crystals(count):
    return FrameSet([Frame.from_atoms(_rattled(seed)) for seed in range(count)])


def _rattled(seed):
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


def test_any_ase_calculator_and_the_stress_of_a_cell(tmp_path):
    labeled = label_frames(crystals(3), "ase.calculators.emt:EMT", tmp_path / "job", {"asap_cutoff": True}, HERE)
    for seed, found in enumerate(read_frames(labeled.file)):
        atoms = _rattled(seed)
        atoms.calc = EMT(asap_cutoff=True)
        assert found.energy == pytest.approx(atoms.get_potential_energy())
        assert np.allclose(found.stress, atoms.get_stress(voigt=False), atol=1e-9)
        # Its sign: a cell that is stretched too far pulls inwards, which is tension.
    stretched = crystals(1)[0]
    stretched = replace(stretched, cell=stretched.cell * 1.05, positions=stretched.positions * 1.05)
    assert np.trace(single_point("ase.calculators.emt:EMT", {}, stretched).stress) > 0


def test_a_cell_without_stress_in_the_method():
    result = single_point(SPRINGS, {}, crystals(1)[0])
    assert isinstance(result, SinglePoint)
    assert result.stress is None


def test_failures_are_kept_apart_and_tried_again(tmp_path):
    frames, job, log = numbered(5), tmp_path / "job", tmp_path / "log"
    options = {"fail": [1, 3], "log": str(log)}
    labeled = label_frames(frames, SPRINGS, job, options, HERE)
    assert labeled.failures == {1: "no convergence for structure 1", 3: "no convergence for structure 3"}
    result = read_frames(labeled.file)
    assert [found.has_energy and found.has_forces for found in result] == [True, False, True, False, True]
    assert [round(found.positions[0, 0]) for found in result] == [0, 1, 2, 3, 4]
    assert json.loads((job / "summary.json").read_text())["failures"]["3"] == "no convergence for structure 3"
    log.unlink()
    label_frames(frames, SPRINGS, job, options, HERE)
    assert log.read_text().split() == ["1", "3"]


def test_a_failure_that_is_gone_is_forgotten(tmp_path):
    store = LabelStore(tmp_path / "labels.jsonl")
    store.add(0, Failure("no convergence"))
    store.add(0, SinglePoint(1.0, np.zeros((1, 3)), None))
    assert LabelStore(tmp_path / "labels.jsonl").failures == {}


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        (SPRINGS, {"fail": [0, 1]}, "no convergence"),
        ("tests.support.faulty_calculators:NotANumber", {}, "not a finite number"),
    ],
)
def test_nothing_labeled_is_an_error(tmp_path, method, options, reason):
    with pytest.raises(DataError, match=f"no frame could be labeled: frame 0: .*{reason}"):
        label_frames(numbered(2), method, tmp_path / "job", options, HERE)
    assert not (tmp_path / "job" / "frames.xyz").exists()


def test_a_foreign_calculator_is_made_once(tmp_path):
    faulty_calculators.Springs.made = 0
    label_frames(numbered(4), SPRINGS, tmp_path / "job", {"pause": 0.001}, HERE)
    assert faulty_calculators.Springs.made == 2  # before the job, to see whether it can be made, and in it


@pytest.mark.slow
def test_processes_that_die_and_files_that_meet(tmp_path):
    method, log = "tests.support.faulty_calculators:ThroughFiles", tmp_path / "log"
    options = {"kill": [1], "log": str(log)}
    labeled = label_frames(numbered(4), method, tmp_path / "job", options, LocalProcesses(1))
    assert labeled.failures == {1: "the process died (out of memory, or a crash)"}
    result = read_frames(labeled.file)
    assert [found.has_energy for found in result] == [True, False, True, True]
    for found in result[2:]:
        assert found.energy == pytest.approx(0.5 * np.square(found.positions).sum(), abs=1e-6)


def _group(leader):
    """Living processes of a process group, without its leader."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, fields = status.read_text().rpartition(")")
            state, _, group = fields.split()[:3]
            if int(group) == leader and state != "Z":
                found.append(status.parent.name)
    return found


@pytest.mark.slow
def test_a_killed_job_goes_on(tmp_path):
    frames, job, log = numbered(12), tmp_path / "job", tmp_path / "log"
    options = {"pause": 0.2, "log": str(log)}
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from piwsl.data.labeling.structures import label_frames\n"
        "from piwsl.data.read import read_frames\n"
        "if __name__ == '__main__':\n"
        "    label_frames(read_frames(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), eval(sys.argv[5]))\n"
    )
    (tmp_path / "job.py").write_text(script)
    from piwsl.data.write import write_frames

    write_frames(frames, tmp_path / "in.xyz")
    arguments = [ROOT, tmp_path / "in.xyz", SPRINGS, job, options]
    process = subprocess.Popen([sys.executable, tmp_path / "job.py", *map(str, arguments)], start_new_session=True)
    store = job / "labels.jsonl"
    while process.poll() is None and (not store.exists() or store.read_bytes().count(b"\n") < 3):
        time.sleep(0.02)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while _group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group(process.pid)  # its worker ends with it
    done = store.read_bytes().count(b"\n")
    assert 3 <= done < 12
    with store.open("ab") as stream:
        stream.write(b'{"index": 11, "energy": 1.0, "for')  # a kill in the middle of a line
    log.unlink()
    labeled = label_frames(read_frames(tmp_path / "in.xyz"), SPRINGS, job, options, HERE)
    assert len(log.read_text().split()) == 12 - done
    whole = label_frames(read_frames(tmp_path / "in.xyz"), SPRINGS, tmp_path / "whole", options, HERE)
    assert labeled.file.read_bytes() == whole.file.read_bytes()


def test_the_store_is_exact_and_finds_damage(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "labels.jsonl"
    store, kept = LabelStore(path), {}
    for index in (2, 0, 1):
        kept[index] = SinglePoint(float(rng.normal()), rng.normal(size=(3, 3)), rng.normal(size=(3, 3)))
        store.add(index, kept[index])
    for reader in (store, LabelStore(path)):
        assert len(reader) == 3
        for index, labels in kept.items():
            found = reader.labels(index)
            assert found.energy == labels.energy
            assert np.array_equal(found.forces, labels.forces)
            assert np.array_equal(found.stress, labels.stress)
        assert reader.labels(3) is None
    lines = path.read_bytes().splitlines(keepends=True)
    digit = lines[1].index(b".") + 3
    other = b"%d" % (9 - int(lines[1][digit : digit + 1]))
    for damaged in (lines[1][:40] + b"\n", lines[1][:digit] + other + lines[1][digit + 1 :]):
        path.write_bytes(lines[0] + damaged + lines[2])
        with pytest.raises(DataError, match="line 2 is damaged"):
            LabelStore(path)


def test_another_job_is_refused(tmp_path):
    job = tmp_path / "job"
    label_frames(numbered(2), SPRINGS, job, where=HERE)
    with pytest.raises(RunDirectoryError, match=r"another labeling job \(options\)"):
        label_frames(numbered(2), SPRINGS, job, {"pause": 0.1}, HERE)
    with pytest.raises(RunDirectoryError, match=r"another labeling job \(frames, structures\)"):
        label_frames(numbered(3), SPRINGS, job, where=HERE)
    with FileLock(job / ".lock"), pytest.raises(RunDirectoryError, match="another process"):
        label_frames(numbered(2), SPRINGS, job, where=HERE)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty"):
        label_frames(numbered(2), SPRINGS, tmp_path / "full", where=HERE)
    with pytest.raises(RunDirectoryError, match="is a file"):
        label_frames(numbered(2), SPRINGS, tmp_path / "full" / "notes.txt", where=HERE)
    (job / "plan.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"plan\.json is not valid JSON"):
        label_frames(numbered(2), SPRINGS, job, where=HERE)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("b3lyp", {}, "unknown method 'b3lyp': use one of gfn2-xtb, gfn1-xtb"),
        ("gfn2-xtb", {"chrage": 1}, "gfn2-xtb has no option chrage: use accuracy"),
        ("no_such_module:Class", {}, "No module named 'no_such_module'"),
        ("ase.calculators.emt:Emt", {}, "no attribute 'Emt'"),
        (SPRINGS, {"stiffness": 1}, "cannot create the calculator"),
        ("tests.support.faulty_calculators:no_calculator", {}, "name an ASE calculator"),
        (":", {}, "name an ASE calculator"),
    ],
)
def test_bad_methods_leave_nothing_behind(tmp_path, method, options, message):
    with pytest.raises(ConfigError, match=message):
        label_frames(numbered(1), method, tmp_path / "job", options, HERE)
    assert not (tmp_path / "job").exists()


def test_without_tblite(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(ConfigError.__base__, match=r"pip install 'piwsl\[label\]'"):
        reference_calculator("gfn2-xtb")


@pytest.mark.slow
def test_a_trained_model_labels_like_its_calculator(tmp_path):
    model = trained_file(tmp_path / "teacher.pt", dtype="float64", layers=1, channels=8)
    frames = FrameSet([frame("CH3OH", seed=seed) for seed in range(2)])
    done = label_frames(frames, f"model:{model}", tmp_path / "job", where=HERE)
    atoms = frames[1].atoms()
    atoms.calc = PiwslCalculator(model)
    labeled = read_frames(done.file)[1]
    assert labeled.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert np.allclose(labeled.forces, atoms.get_forces(), atol=1e-6)
    with pytest.raises(ModelFileError, match="no such file"):
        label_frames(frames, f"model:{tmp_path / 'none.pt'}", tmp_path / "other", where=HERE)
    assert not (tmp_path / "other").exists()
    trained_file(model, dtype="float64", layers=2, channels=8)  # the same name with other weights is another job
    with pytest.raises(RunDirectoryError, match="another"):
        label_frames(frames, f"model:{model}", tmp_path / "job", where=HERE)
