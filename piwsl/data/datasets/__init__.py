"""Named data sets: published properties, addresses and downloads."""

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
