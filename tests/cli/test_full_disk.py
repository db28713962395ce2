"""Commands on a file system that is full: one line, exit code 2, nothing left."""

import sys
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import write

from piwsl.data.frames import Frame
from piwsl.data.systems import SYSTEMS
from piwsl.data.write import write_frames
from piwsl.errors import RunDirectoryError
from tests.support.limits import can_mount, limited_files, on_small_disk


def water(count: int) -> list[Frame]:
    atoms = molecule("H2O")
    return [Frame.from_atoms(atoms, -10.0 - 0.1 * index, 0.1 * atoms.positions) for index in range(count)]


@pytest.mark.parametrize("suffix", ["extxyz", "h5", "db", "aselmdb", "npz"])
@pytest.mark.parametrize("size", [100, 5000])
def test_every_format_refuses_in_one_line(suffix, size, tmp_path: Path):
    path = tmp_path / f"frames.{suffix}"
    with limited_files(size), pytest.raises(RunDirectoryError, match=r"frames\.\w+: cannot be written \(") as caught:
        write_frames(water(2000), path)
    assert "\n" not in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert not list(tmp_path.iterdir())


MODEL = SYSTEMS["aspirin"].model  # trained, knows the elements of water
COMMANDS = {
    "export": "export {model} --target general --output {disk}/x.pt",
    "convert": "data convert {here}/frames.xyz {disk}/x.h5",
    "train": "train --data {here}/frames.xyz -o data.train=8 -o data.validation=4 -o optimizer.steps=2 "
    "-o model.channels=8 -o loss.pitc=0 -o loss.pisc=0 --output {disk}/run",
    "evaluate": "evaluate {model} {here}/frames.xyz --plot {disk}/plot.png",
    "label": "data label --frames {here}/frames.xyz --method ase.calculators.emt:EMT --output {disk}/labels",
}


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="a file system cannot be mounted here")
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_on_a_full_disk(name, tmp_path: Path):
    write_frames(water(12), tmp_path / "frames.xyz")
    write(tmp_path / "water.xyz", molecule("H2O"))
    disk = tmp_path / "disk"
    disk.mkdir()
    command = COMMANDS[name].format(here=tmp_path, disk=disk, model=MODEL).split()
    done = on_small_disk(disk, 4096, [sys.executable, "-m", "piwsl.cli", *command])
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr.splitlines()[-1]
    left = [Path(line).name for line in done.stdout.splitlines() if line.startswith(str(disk))]
    assert not [file for file in left if ".tmp" in file or file.startswith("x.")], left


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="a file system cannot be mounted here")
def test_a_trained_file_and_no_room_for_temporary_files(tmp_path: Path):
    write(tmp_path / "water.xyz", molecule("H2O"))
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"md --structure {tmp_path}/water.xyz --model {MODEL} --steps 2 --output {tmp_path}/run"
    done = on_small_disk(
        disk, 8192, [sys.executable, "-m", "piwsl.cli", *command.split()], environment={"TMPDIR": str(disk)}
    )
    assert done.returncode == 2, done.stderr
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith(str(disk))]
