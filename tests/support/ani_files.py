"""A small file in the layout of ANI-1x."""

import h5py
import numpy as np

FORMULAS = {"CH4": [6, 1, 1, 1, 1], "H2O": [8, 1, 1], "NH3": [7, 1, 1, 1]}


def write_ani(path, **changes):
    """Three conformers of each formula; CCSD(T) for one in three, no energy at all for one ammonia."""
    rng = np.random.default_rng(0)
    content = {}
    for name, species in FORMULAS.items():
        n = len(species)
        coupled = np.array([-1.5, np.nan, np.nan])
        group = {
            "atomic_numbers": np.array(species, dtype="u1"),
            "coordinates": rng.normal(0, 2, (3, n, 3)).astype("f4"),
            "wb97x_dz.energy": rng.normal(-40, 0.01, 3),
            "wb97x_dz.forces": rng.normal(0, 0.05, (3, n, 3)).astype("f4"),
            "wb97x_tz.dipole": np.zeros((3, 3)),
            "ccsd(t)_cbs.energy": coupled if name != "NH3" else np.full(3, np.nan),
        }
        if name == "NH3":
            group["wb97x_dz.energy"][1] = np.nan
            group["wb97x_dz.forces"][2] = np.nan
        content[name] = {**group, **changes}
    with h5py.File(path, "w") as file:
        for name, group in content.items():
            for key, values in group.items():
                if values is not None:
                    file.create_dataset(f"{name}/{key}", data=values, compression="gzip")
    return content
