"""Labeled structures: frames, file formats, reports, splits, batches of graphs, named data sets and bundled systems.

All values are in eV and angstrom; a missing label is NaN. `read_frames` reads files, directories, patterns and named
data sets, `write_frames` writes frames in another format, and `collate` joins frames into one batch of graphs.
"""

from typing import TYPE_CHECKING

from piwsl._lazy import attach

if TYPE_CHECKING:
    from piwsl.data.batch import Batch, collate
    from piwsl.data.datasets.registry import DATASETS, Dataset
    from piwsl.data.frames import Frame, FrameSet
    from piwsl.data.inspect import DataReport, inspect_frames
    from piwsl.data.read import as_frames, dataset_frames, read_frames
    from piwsl.data.reference_energies import fit_reference_energies
    from piwsl.data.split import Split, random_split
    from piwsl.data.systems import NamedSystem, named_system
    from piwsl.data.write import write_frames

__all__ = [
    "DATASETS",
    "Batch",
    "DataReport",
    "Dataset",
    "Frame",
    "FrameSet",
    "NamedSystem",
    "Split",
    "as_frames",
    "collate",
    "dataset_frames",
    "fit_reference_energies",
    "inspect_frames",
    "named_system",
    "random_split",
    "read_frames",
    "write_frames",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DATASETS": "datasets.registry",
        "Batch": "batch",
        "DataReport": "inspect",
        "Dataset": "datasets.registry",
        "Frame": "frames",
        "FrameSet": "frames",
        "NamedSystem": "systems",
        "Split": "split",
        "as_frames": "read",
        "collate": "batch",
        "dataset_frames": "read",
        "fit_reference_energies": "reference_energies",
        "inspect_frames": "inspect",
        "named_system": "systems",
        "random_split": "split",
        "read_frames": "read",
        "write_frames": "write",
    },
)
