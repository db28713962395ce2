"""Errors of a model on groups of frames: by name, such as ``config_type``, and by element."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols

from piwsl.training.metrics import Errors, ErrorSums
from piwsl.training.predictors import Portion
from piwsl.typing import FloatArray

GROUP_TITLES = (
    "frames", "energy MAE [meV/atom]", "energy RMSE [meV]", "force MAE [meV/A]", "force RMSE [meV/A]",
)  # fmt: skip


def group_rows(errors: Mapping[str, Errors]) -> list[tuple[str, ...]]:
    """Return one table row per name, with the columns `GROUP_TITLES`."""
    rows = []
    for name, entry in errors.items():
        values = (entry.energy_per_atom_mae, entry.energy_rmse, entry.force_mae, entry.force_rmse)
        texts = ["-" if value is None else f"{1e3 * value:.3g}" for value in values]
        rows.append((name, str(entry.structures) if entry.structures else "-", *texts))
    return rows


def errors_on(portions: Sequence[Portion], chosen: Sequence[FloatArray] | None) -> Errors:
    """Return the errors on the frames selected by a mask for each portion. With None, use all frames."""
    sums = ErrorSums()
    for portion, mask in zip(portions, chosen or [np.ones(len(p.counts), dtype=bool) for p in portions], strict=True):
        known = mask & np.isfinite(portion.energy_labels)
        atoms = mask[portion.frame_of_atom] & np.isfinite(portion.force_labels).all(-1)
        sums.add_values(
            portion.energies[known],
            portion.energy_labels[known],
            portion.counts[known].astype(np.float64),
            portion.forces[atoms],
            portion.force_labels[atoms],
        )
        if portion.stresses is not None:
            labeled = mask & np.isfinite(portion.stress_labels).all((-1, -2))
            sums.stress.add(portion.stresses[labeled] - portion.stress_labels[labeled])
    return sums.errors()


def errors_by_name(portions: Sequence[Portion], names: Sequence[str]) -> dict[str, Errors]:
    """Return the errors on the frames with each name. ``names`` has one entry per frame (S,)."""
    edges = np.cumsum([len(portion.counts) for portion in portions])[:-1]
    parts = np.split(np.array(names, dtype=object), edges)
    return {
        name or "(none)": errors_on(portions, [np.asarray(part == name) for part in parts])
        for name in dict.fromkeys(names)
    }


def errors_by_element(portions: Sequence[Portion]) -> dict[str, Errors]:
    """Return the force errors on the atoms of each element."""
    sums: dict[int, ErrorSums] = {}
    for portion in portions:
        known = np.isfinite(portion.force_labels).all(-1)
        differences = portion.forces - portion.force_labels
        for number in np.unique(portion.species[known]):
            sums.setdefault(int(number), ErrorSums()).force.add(differences[known & (portion.species == number)])
    return {chemical_symbols[number]: sums[number].errors() for number in sorted(sums)}
