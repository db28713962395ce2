"""The mismatch that PITC squares, on the true GFN2-xTB surface of the bundled aspirin.

python benchmarks/taylor_mismatch.py prints a table and a JSON line; about ten seconds.
"""

import json

import numpy as np

from piwsl.data.labeling.calculators import reference_calculator
from piwsl.data.read import read_frames
from piwsl.data.systems import named_system

FRAMES = 50
LENGTHS = (0.01, 0.05)  # angstrom


def main() -> None:
    frames = read_frames(named_system("aspirin").train)
    rng = np.random.default_rng(1)
    atoms = frames[0].atoms()
    atoms.calc = reference_calculator("gfn2-xtb")
    found: dict[float, list[tuple[float, float]]] = {length: [] for length in LENGTHS}
    for index in rng.choice(len(frames), FRAMES, replace=False):
        atoms.positions = frames[int(index)].positions
        start, energy, forces = atoms.get_positions(), atoms.get_potential_energy(), atoms.get_forces()
        for length in LENGTHS:
            step = rng.normal(size=start.shape)
            step *= length / np.linalg.norm(step, axis=1, keepdims=True)
            atoms.positions = start + step
            rise, end = atoms.get_potential_energy() - energy, atoms.get_forces()
            first = rise + float((step * forces).sum())
            second = rise + float((step * (forces + end)).sum()) / 2
            found[length].append((first, second))
    print("displacement   RMS mismatch, k = 0   RMS mismatch, k = 1/2")
    for length, values in found.items():
        first, second = np.sqrt(np.square(values).mean(0))
        print(f"{length:.2f} A         {first:.4f} eV            {second:.5f} eV")
    spread = float(np.std([frame.energy for frame in frames]))
    print(f"standard deviation of the energies: {spread:.3f} eV")
    rms = {str(length): np.sqrt(np.square(values).mean(0)).tolist() for length, values in found.items()}
    print(json.dumps({"rms_mismatch": rms, "energy_std": spread}))


if __name__ == "__main__":
    main()
