"""Put two finished labeling jobs together as the bundled aspirin (see piwsl/resources/README.md).

python benchmarks/bundle_aspirin.py TRAIN_JOB REFERENCE_JOB [OUTPUT]
"""

import shutil
import sys
from pathlib import Path

import mdtraj
import numpy as np
from ase.io import read
from mdtraj.formats import XTCTrajectoryFile

from piwsl.data.systems import RESOURCES
from piwsl.runs.files import atomic_path, write_npz
from piwsl.structures.bonds import bonded_pairs
from piwsl.trajectories.topology import write_topology
from piwsl.units import NANOMETER, PICOSECOND

TEST_FRAMES = 1000


def bundle(train: Path, reference: Path, output: Path) -> None:
    """Copy structure and training frames; thin the test frames; write the reference trajectory as XTC."""
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(train / "minimized.xyz", output / "aspirin.xyz")
    shutil.copyfile(train / "frames.npz", output / "aspirin_train.npz")
    with np.load(reference / "frames.npz") as frames:
        arrays = {name: frames[name] for name in frames.files}
    step = len(arrays["energies"]) // TEST_FRAMES
    for name in ("coords", "energies", "forces", "trajectory"):
        arrays[name] = arrays[name][step - 1 :: step][:TEST_FRAMES]
    write_npz(output / "aspirin_test.npz", **arrays)

    structure = read(train / "minimized.xyz")
    write_topology(output / "aspirin_reference.pdb", structure, bonded_pairs(structure))
    with np.load(reference / "trajectory.npz") as trajectory:
        positions, interval = trajectory["coords"], float(trajectory["timestep"])
    count = len(positions)
    with atomic_path(output / "aspirin_reference.xtc") as temporary, XTCTrajectoryFile(str(temporary), "w") as file:
        file.write(
            positions / NANOMETER,
            time=np.arange(1, count + 1, dtype=np.float32) * interval / PICOSECOND,
            step=np.arange(1, count + 1),
            box=np.zeros((count, 3, 3), dtype=np.float32),
        )
    written = mdtraj.load(output / "aspirin_reference.xtc", top=output / "aspirin_reference.pdb")
    error = np.abs(written.xyz * NANOMETER - positions).max()
    size = sum(path.stat().st_size for path in output.iterdir()) / 2**20
    print(f"{count} reference frames, rounded by at most {error:.4f} A; {size:.1f} MB in {output}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    bundle(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) == 4 else RESOURCES)
