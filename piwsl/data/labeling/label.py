"""Public functions that label given structures or sample structures by reference dynamics."""

import logging
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from piwsl.data.frames import FrameSet
from piwsl.data.inspect import structure_warnings
from piwsl.data.labeling.calculators import labels_from
from piwsl.data.labeling.dynamics import FRAMES_FILE, SamplingPlan, sample_and_label
from piwsl.data.labeling.structures import label_frames
from piwsl.data.read import FrameSource, as_frames, read_frames
from piwsl.data.systems import Structure, find_structure
from piwsl.errors import ConfigError, public
from piwsl.runs.executors import Executor, LocalProcesses
from piwsl.runs.progress import counting

LOGGER = logging.getLogger(__name__)


@public
def label(
    structures: FrameSource,
    method: str = SamplingPlan.method,
    *,
    output: str | PathLike[str],
    units: str | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | bool | None = None,
) -> FrameSet:
    """Compute energies, forces and, for periodic cells, stresses with a reference method.

    Repeat the call to resume an interrupted job. A structure whose calculation fails has no labels and is listed in the
    notes of the result; the next call tries it again.

    Args:
        structures: Frames, ASE structures, a file, a directory, a pattern, or a named data set. Existing labels are
            ignored.
        method: Reference method: ``gfn2-xtb``, ``gfn1-xtb``, ``pyscf:FUNCTIONAL/BASIS``, ``model:FILE``, or
            ``module:Class`` of an ASE calculator. An ensemble (``model:FILE,FILE,...`` or ``model:DIRECTORY``) gives
            mean labels and their spreads.
        output: Directory of the job.
        units: Units of the file, if it does not state them.
        options: Calculator options by name.
        workers: Number of local processes with one thread each; default 1.
        scheduler: Address of a Dask scheduler whose workers are used instead of local processes.
        progress: Function called with (finished structures, total structures); True or False shows or hides a progress
            bar.

    Returns:
        Labeled frames in the order of ``structures``, in eV and angstrom. They are also stored in
        ``output/frames.xyz``.

    Raises:
        ConfigError: The method or an option is unknown.
        DataError: The structures cannot be read, or no structure could be labeled.
        RunDirectoryError: The directory contains another job.
    """
    frames = as_frames(structures, units)
    for text in structure_warnings(frames):
        LOGGER.warning(f"structures: {text}")
    _state_origin(method)
    with counting(progress, "frames") as report:
        done = label_frames(frames, method, Path(output), options, executor(workers, scheduler), report)
    notes = tuple(f"frame {index} has no labels: {reason}" for index, reason in done.failures.items())
    labeled = read_frames(done.file)
    return FrameSet(labeled.frames, done.file, notes, labeled.files)


@public
def sample(
    structure: Structure | None = None,
    method: str = SamplingPlan.method,
    *,
    output: str | PathLike[str],
    system: str | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | bool | None = None,
    **plan: Any,
) -> FrameSet:
    """Run Langevin dynamics with a reference method, and return labeled frames.

    The structure is minimized first. Repeat the call to resume an interrupted job.

    Args:
        structure: ASE structure, frame, file that ASE can read, or name of a bundled system.
        method: Reference method, as in `label`.
        output: Directory of the job.
        system: Bundled system whose structure is used.
        options: Calculator options by name.
        workers: Number of local processes with one trajectory and one thread each; default 1.
        scheduler: Address of a Dask scheduler whose workers are used instead of local processes.
        progress: Function called with (finished chunks, total chunks); True or False shows or hides a progress bar.
        **plan: Fields of `piwsl.data.labeling.dynamics.SamplingPlan`, such as ``trajectories``, ``steps``,
            ``temperature`` (K) and ``timestep`` (fs).

    Returns:
        Labeled frames in eV and angstrom. They are also stored in ``output/frames.npz``; ``output/trajectory.npz``
        contains positions at shorter intervals.

    Raises:
        ConfigError: No structure is given, or an option is unknown or out of range.
        DataError: The structure cannot be read, or a process that computed a trajectory died.
        RunDirectoryError: The directory contains another job.
    """
    try:
        settings = SamplingPlan(method=method, options=dict(options or {}), **plan)
    except TypeError:
        known = ", ".join(name for name in SamplingPlan.__dataclass_fields__ if name not in ("method", "options"))
        unknown = next(name for name in plan if name not in SamplingPlan.__dataclass_fields__)
        raise ConfigError(f"unknown option {unknown!r} of the dynamics: use one of {known}") from None
    atoms = find_structure(structure, system)
    _state_origin(method)
    with counting(progress, "chunks") as report:
        directory = sample_and_label(atoms, settings, Path(output), executor(workers, scheduler), report)
    return read_frames(directory / FRAMES_FILE)


def _state_origin(method: str) -> None:
    origin = labels_from(method)
    if origin:
        LOGGER.info(f"labels made from {origin}")


def executor(workers: int | None, scheduler: str | None) -> Executor:
    """Return an executor for a Dask scheduler or for ``workers`` local processes.

    Raises:
        ConfigError: Both arguments are given.
    """
    if scheduler is None:
        return LocalProcesses(workers or 1)
    if workers is not None:
        raise ConfigError("workers=N has no effect with scheduler=ADDRESS: give only one of them")
    from piwsl.runs.dask_cluster import DaskCluster

    return DaskCluster(scheduler)
