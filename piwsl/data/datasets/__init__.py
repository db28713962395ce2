"""Named data sets: what is published about them, where they lie, and how they come here."""

from piwsl.data.datasets.fetch import data_folder, fetch, recorded_sha256
from piwsl.data.datasets.registry import DATASETS, Dataset, Protocol, RemoteFile, dataset, is_dataset

__all__ = [
    "DATASETS",
    "Dataset",
    "Protocol",
    "RemoteFile",
    "data_folder",
    "dataset",
    "fetch",
    "is_dataset",
    "recorded_sha256",
]
