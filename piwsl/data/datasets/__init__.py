"""Named data sets: what is published about them, where they lie, how they come here, and how they are read."""

from piwsl.data.datasets.fetch import data_folder, fetch, recorded_sha256
from piwsl.data.datasets.frames import dataset_frames
from piwsl.data.datasets.record import Dataset, Protocol, RemoteFile
from piwsl.data.datasets.registry import DATASETS, dataset, is_dataset

__all__ = [
    "DATASETS",
    "Dataset",
    "Protocol",
    "RemoteFile",
    "data_folder",
    "dataset",
    "dataset_frames",
    "fetch",
    "is_dataset",
    "recorded_sha256",
]
