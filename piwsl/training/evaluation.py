"""Errors of a model on labeled frames: implementation of `piwsl evaluate`, and its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase.io.extxyz import write_xyz
from matplotlib.figure import Figure

from piwsl.data.formats.labels import ENERGY_KEY, FORCES_KEY, STRESS_KEY
from piwsl.data.frames import Frame, FrameSet
from piwsl.data.inspect import evaluation_warnings
from piwsl.data.read import FrameSource, as_frames
from piwsl.errors import ConfigError, DataError, public
from piwsl.export.trained_file import DTYPES, TrainedModel
from piwsl.losses.curl import Curl
from piwsl.runs import notebook
from piwsl.runs.files import atomic_path, writing
from piwsl.runs.progress import counting
from piwsl.training.evaluate import curl_of
from piwsl.training.grouped_errors import GROUP_TITLES, errors_by_element, errors_by_name, errors_on, group_rows
from piwsl.training.metrics import Errors, offset_note
from piwsl.training.parity import parity_figure
from piwsl.training.predictors import Portion, Predictor, TrainedPredictor, predictor_of
from piwsl.typing import FloatArray, IntArray

PREDICTIONS_SUFFIXES = (".extxyz", ".xyz")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Errors of a model on labeled frames.

    Attributes:
        errors: Mean errors of energies (eV), forces (eV/angstrom) and stress (eV/angstrom^3). Errors are NaN if any
            prediction is not finite.
        by_set: Errors on each data set, by name. Empty for a single data set.
        by_config_type: Errors on the frames of each ``config_type``. Empty if no frame has a ``config_type``.
        by_element: Force errors on the atoms of each element.
        frames: Evaluated frames, with all data sets concatenated.
        sets: Name of the data set of each frame (S,).
        energies: Predicted energies (S,), eV.
        forces: Predicted forces (n, 3) of each frame, eV/angstrom.
        energy_errors: Predicted minus labeled energy (S,), eV. NaN for frames without a label.
        force_errors: Root mean square error (S,) of the force components of each frame, eV/angstrom. NaN for frames
            without labels.
        energy_spreads: Standard deviation (S,) of the energy over the members of an ensemble, eV. None for a single
            model.
        force_spreads: Standard deviation (S,) of the forces over the members of an ensemble, as a root mean square over
            the components of each frame, eV/angstrom. None for a single model.
        not_finite: Indices of the frames with energies or forces that are not finite.
        curl: Asymmetry of the force Jacobian of a model with direct forces. None for conservative models.
        notes: Remarks on the data, and on a constant offset of the energies.
        source: Names of the data sets, separated by commas.
        portions: Labels and predictions of consecutive frames.
    """

    errors: Errors
    by_set: Mapping[str, Errors]
    by_config_type: Mapping[str, Errors]
    by_element: Mapping[str, Errors]
    frames: Sequence[Frame]
    sets: Sequence[str]
    energies: FloatArray
    forces: Sequence[FloatArray]
    energy_errors: FloatArray
    force_errors: FloatArray
    energy_spreads: FloatArray | None
    force_spreads: FloatArray | None
    not_finite: IntArray
    curl: Curl | None
    notes: tuple[str, ...]
    source: str
    portions: Sequence[Portion] = field(repr=False)

    @cached_property
    def order(self) -> IntArray:
        """Indices (S,) of the frames, sorted by decreasing force error.

        Without force labels, the frames are sorted by the energy error per atom.
        """
        atoms = np.concatenate([portion.counts for portion in self.portions])
        errors = self.force_errors
        if not np.isfinite(errors).any():
            errors = np.abs(self.energy_errors) / atoms
        keys = np.where(np.isfinite(errors), errors, -1.0)
        keys[self.not_finite] = np.inf
        return np.argsort(-keys, kind="stable")

    @cached_property
    def stresses(self) -> FloatArray:
        """Predicted stress (S, 3, 3), eV/angstrom^3. NaN for frames without a stress label or a prediction."""
        return np.concatenate(
            [
                np.full_like(part.stress_labels, np.nan) if part.stresses is None else part.stresses
                for part in self.portions
            ]
        )

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw predictions against labels, and save the figure as PNG or SVG if a path is given.

        Raises:
            DataError: No frame has a label.
            RunDirectoryError: The file cannot be written.
        """
        figure = parity_figure(self.portions)
        if path is not None:
            with writing(Path(path)), atomic_path(Path(path)) as temporary:
                figure.savefig(temporary, dpi=150)
        return figure

    def write(self, path: str | PathLike[str]) -> None:
        """Write structures, labels, predictions and errors as extended XYZ, the worst frame first.

        Each frame contains the labels, ``predicted_energy``, ``predicted_forces`` and, with a label,
        ``predicted_stress``, ``energy_error`` (predicted minus labeled, eV), ``force_rmse`` (eV/angstrom), the name of
        its data set (``set``) and its index in this set (``frame``). For an ensemble, it also contains
        ``energy_spread`` and ``force_spread``.

        Raises:
            ConfigError: The file name does not end in .extxyz or .xyz.
            RunDirectoryError: The file cannot be written.
        """
        path = Path(path)
        check_predictions_name(path)
        starts = {name: index for index, name in reversed(list(enumerate(self.sets)))}
        with writing(path), atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            for index in self.order:
                write_xyz(stream, [self._predicted(int(index), starts)], write_results=False)

    def _predicted(self, index: int, starts: Mapping[str, int]) -> Any:
        frame = self.frames[index]
        atoms, name = frame.atoms(), self.sets[index]
        values: dict[str, Any] = {"set": name, "frame": index - starts[name]}
        if frame.config_type:
            values["config_type"] = frame.config_type
        numbers = {
            ENERGY_KEY: frame.energy,
            "predicted_energy": self.energies[index],
            "energy_error": self.energy_errors[index],
            "force_rmse": self.force_errors[index],
        }
        for spread, spreads in (("energy_spread", self.energy_spreads), ("force_spread", self.force_spreads)):
            if spreads is not None:
                numbers[spread] = spreads[index]
        values |= {key: float(value) for key, value in numbers.items() if np.isfinite(value)}
        if frame.has_stress:
            values[STRESS_KEY] = frame.stress.reshape(-1)
            if np.isfinite(self.stresses[index]).all():
                values["predicted_stress"] = self.stresses[index].reshape(-1)
        if index in self.not_finite:
            values["not_finite"] = True
        atoms.info.update(values)
        if frame.has_forces:
            atoms.arrays[FORCES_KEY] = frame.forces
        if np.isfinite(self.forces[index]).all():
            atoms.arrays["predicted_forces"] = self.forces[index]
        return atoms

    def lines(self) -> list[str]:
        """Return the errors with their units as lines of text."""
        lines = self.errors.lines()
        if self.curl is not None:
            lines.append(
                f"curl    |J - J^T| / |J + J^T| {float(self.curl.asymmetry.mean()):.3f} with J = dF/dx; "
                f"F + dE/dx RMS {1e3 * float(self.curl.mismatch.mean()):.1f} meV/A ({len(self.curl.mismatch)} frames)"
            )
        return lines

    def groups(self) -> list[tuple[str, Mapping[str, Errors]]]:
        """Return the errors by data set, ``config_type`` and element, as pairs of title and errors by name.

        Divisions with a single group are omitted.
        """
        divisions = (("data set", self.by_set), ("config_type", self.by_config_type), ("element", self.by_element))
        return [(title, errors) for title, errors in divisions if len(errors) > 1]

    def as_dict(self) -> dict[str, Any]:
        """Return the errors as plain values for JSON."""
        values: dict[str, Any] = {"frames": len(self.energy_errors), **asdict(self.errors)}
        values["not_finite"] = len(self.not_finite)
        for title, errors in self.groups():
            values[f"by_{title.replace(' ', '_')}"] = {name: asdict(entry) for name, entry in errors.items()}
        if self.energy_spreads is not None and self.force_spreads is not None:
            values["energy_spread"] = float(self.energy_spreads.mean())
            values["force_spread"] = float(np.sqrt(np.square(self.force_spreads).mean()))
        if self.curl is not None:
            values["curl"] = {
                "asymmetry": float(self.curl.asymmetry.mean()),
                "mismatch": float(self.curl.mismatch.mean()),
            }
        return values

    def __repr__(self) -> str:
        errors = "; ".join(" ".join(line.split()) for line in self.lines())
        return f"Evaluation({len(self.energy_errors)} frames; {errors})"

    def _repr_html_(self) -> str:
        tables = [notebook.table(group_rows(errors), (title, *GROUP_TITLES)) for title, errors in self.groups()]
        has_labels = self.errors.structures or self.errors.force_components
        return notebook.block(
            notebook.heading(f"{len(self.energy_errors)} frames of {self.source}"),
            notebook.table(self.errors.rows(), ("", "MAE", "RMSE")),
            *tables,
            notebook.lines(f"note: {note}" for note in self.notes),
            notebook.picture(self.plot(), "predictions against labels") if has_labels else "",
        )


def check_predictions_name(path: Path) -> None:
    """Raise a `ConfigError` if a file name does not end in .extxyz or .xyz."""
    if path.suffix not in PREDICTIONS_SUFFIXES:
        raise ConfigError(f"{path}: predictions are written as extended XYZ: choose a file name that ends in .extxyz")


@public
def evaluate(
    model: str | PathLike[str] | TrainedModel,
    data: FrameSource | Sequence[str | PathLike[str]] | Mapping[str, FrameSource],
    *,
    units: str | None = None,
    device: str = "cpu",
    write: str | PathLike[str] | None = None,
    progress: Callable[[int, int], None] | bool | None = None,
    strict: bool = False,
    head: str | None = None,
) -> Evaluation:
    """Measure the errors of a model on labeled frames.

    Args:
        model: Trained file, exported file, directory of a training run or an ensemble, or result of `piwsl.load_model`.
        data: Labeled frames, file, directory, pattern, or named data set. For several files, or a mapping of names to
            data sets, the errors on each data set are also computed.
        units: Units of a file that does not state them, such as ``kcal/mol, angstrom``.
        device: ``cpu`` or ``cuda``.
        write: Extended XYZ file for structures, predictions and errors, the worst frame first.
        progress: Function called with the number of evaluated frames and the total number. True or False shows or hides
            a progress bar.
        strict: Raise an error instead of a warning for frames outside the training data.
        head: Name of the level of theory, for a model that was trained on several levels. The default is the main
            level.

    Raises:
        ModelFileError: The model file is missing, damaged or not a file of piwsl.
        RunDirectoryError: The directory contains no model, or ``write`` cannot be written.
        DataError: The data cannot be read, or ``strict`` is set and a frame lies outside the training data.
        ElementError: A frame contains an element that the model was not trained on.
        ConfigError: ``write`` does not end in .extxyz, a data set occurs twice, or the model has no such head.
    """
    if write is not None:
        check_predictions_name(Path(write))
    predictor = predictor_of(model, device, head)
    sets = _sets(data, units)
    for frames in sets.values():
        predictor.check(frames, strict)
    total = sum(len(frames) for frames in sets.values())
    portions: list[Portion] = []
    names: list[str] = []
    done = 0
    with counting(progress, "frames") as report:
        for name, frames in sets.items():
            for portion in predictor.portions(frames):
                portions.append(portion)
                names += [name] * len(portion.counts)
                done += len(portion.counts)
                if report:
                    report(done, total)
    evaluation = _evaluated(predictor, sets, names, portions)
    if write is not None:
        evaluation.write(write)
    return evaluation


def _evaluated(
    predictor: Predictor, sets: Mapping[str, FrameSet], names: list[str], portions: list[Portion]
) -> Evaluation:
    frames = [frame for entry in sets.values() for frame in entry] if _in_memory(sets) else _Joined(list(sets.values()))
    types = [frame.config_type for frame in frames] if _in_memory(sets) else []
    energies, energy_errors, force_errors, forces, spreads = [], [], [], [], []
    for portion in portions:
        edges = np.cumsum(portion.counts)[:-1]
        energies.append(portion.energies)
        energy_errors.append(portion.energies - portion.energy_labels)
        force_errors.append(_rms(portion, portion.forces - portion.force_labels))
        forces += np.split(portion.forces, edges)
        if portion.force_spreads is not None:
            spreads.append(_rms(portion, portion.force_spreads))
    energy_spreads = [portion.energy_spreads for portion in portions if portion.energy_spreads is not None]
    whole = np.array([bool(np.isfinite(values).all()) for values in forces]) & np.isfinite(np.concatenate(energies))
    not_finite = np.flatnonzero(~whole)
    notes = [*predictor.notes, *(note for entry in sets.values() for note in entry.notes)]
    notes += [text for entry in sets.values() for text in evaluation_warnings(entry)]
    offset = offset_note(*(np.concatenate(parts) for parts in zip(*map(_labeled_energies, portions), strict=True)))
    notes += [] if offset is None else [offset]
    notes += [not_finite_note(names, not_finite, len(frames))] if len(not_finite) else []
    curl = None
    if isinstance(predictor, TrainedPredictor) and predictor.direct is not None:
        trained = predictor.models[0]
        curl = curl_of(predictor.direct, next(iter(sets.values())), trained.cutoff, DTYPES[trained.dtype])
    return Evaluation(
        errors=errors_on(portions, None),
        by_set=errors_by_name(portions, names) if len(sets) > 1 else {},
        by_config_type=errors_by_name(portions, types) if any(types) else {},
        by_element=errors_by_element(portions),
        frames=frames,
        sets=names,
        energies=np.concatenate(energies),
        forces=forces,
        energy_errors=np.concatenate(energy_errors),
        force_errors=np.concatenate(force_errors),
        energy_spreads=np.concatenate(energy_spreads) if energy_spreads else None,
        force_spreads=np.concatenate(spreads) if spreads else None,
        not_finite=not_finite,
        curl=curl,
        notes=tuple(notes),
        source=", ".join(sets),
        portions=portions,
    )


def not_finite_note(names: Sequence[str], indices: IntArray, count: int) -> str:
    """Return a note about predictions that are not finite."""
    first = int(indices[0])
    place = first - names.index(names[first])
    return (
        f"the predicted energy or forces are not finite for {len(indices)} of {count} frames, first for frame {place} "
        f"of {names[first]}: the errors are undefined"
    )


def _sets(
    data: FrameSource | Sequence[str | PathLike[str]] | Mapping[str, FrameSource], units: str | None
) -> dict[str, FrameSet]:
    """Return the frames of each data set, by name."""
    if isinstance(data, Mapping):
        sources: dict[str, FrameSource] = dict(data)
    elif isinstance(data, list | tuple) and data and all(isinstance(entry, str | PathLike) for entry in data):
        sources = {str(entry): entry for entry in data}
        if len(sources) < len(data):
            raise ConfigError("data: a data set occurs twice: name each data set once")
    else:
        frames = as_frames(data, units)  # type: ignore[arg-type]  # any other value is a single source
        name = str(data) if isinstance(data, str | PathLike) else str(frames.source or "memory")
        return {name: _with_frames(frames, name)}
    if not sources:
        raise ConfigError("data: name at least one data set")
    return {name: _with_frames(as_frames(source, units), name) for name, source in sources.items()}


def _with_frames(frames: FrameSet, name: str) -> FrameSet:
    if not len(frames):
        raise DataError(f"{name}: the data set contains no frames to evaluate: check the file or the pattern")
    return frames


def _in_memory(sets: Mapping[str, FrameSet]) -> bool:
    return all(isinstance(frames.frames, list) for frames in sets.values())


class _Joined(Sequence[Frame]):
    """Concatenation of several sets of frames, which are read on access."""

    def __init__(self, sets: Sequence[FrameSet]) -> None:
        self._sets = sets
        self._starts = np.cumsum([0, *(len(frames) for frames in sets)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: Any) -> Any:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._sets[number][int(index) - int(self._starts[number])]


def _rms(portion: Portion, values: FloatArray) -> FloatArray:
    """Return the root mean square (S,) of the components (N, 3) in each frame, or NaN if a component is NaN."""
    starts = np.concatenate([[0], np.cumsum(portion.counts)[:-1]])
    return np.asarray(np.sqrt(np.add.reduceat(np.square(values).mean(-1), starts) / portion.counts))


def _labeled_energies(portion: Portion) -> tuple[FloatArray, FloatArray, FloatArray]:
    known = np.isfinite(portion.energy_labels) & np.isfinite(portion.energies)
    return portion.energies[known], portion.energy_labels[known], portion.counts[known].astype(np.float64)
