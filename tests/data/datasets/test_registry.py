"""The registry of data sets, and frames read through it."""

import gzip
import io
import re

import numpy as np
import pytest
from ase.io import read

from piwsl.data.datasets import DATASETS, Protocol, dataset, is_dataset
from piwsl.errors import ConfigError
from piwsl.units import parse_units


def test_all_sets_are_there():
    families = [name.partition(":")[0] for name in DATASETS]
    assert {name: families.count(name) for name in families} == {
        "rmd17": 10, "md22": 7, "ani1x": 1, "tio2": 1, "lmnto": 1, "aspirin-ccsd": 1
    }  # fmt: skip


@pytest.mark.parametrize("record", DATASETS.values(), ids=DATASETS.keys())
def test_every_set_says_what_a_user_needs(record):
    parse_units(record.units)
    assert record.level
    assert record.citation
    assert re.fullmatch(r"10\.\d{4,}/\S+", record.doi)
    assert record.file.source
    assert record.file.page.startswith(("https://", "http://"))
    assert re.fullmatch(r"[\w.-]+", record.file.name)
    assert record.file.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", record.file.checksum)
    assert all(re.match(r"https?://", url) for url in record.file.urls)
    # Plain http is acceptable only where a checksum, or an encrypted address before it, protects the user.
    assert (
        record.file.checksum or not record.file.urls or record.file.urls[0].startswith("https") or record.name == "tio2"
    )


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith("rmd17")])
def test_the_sizes_of_rmd17_fit_its_molecules(name):
    """Positions, old and new forces, two energies and an index in float64, and the headers of the arrays."""
    record = dataset(name)
    content = record.frames * (3 * 3 * 8 * int(record.atoms) + 3 * 8)
    assert 0 < record.file.size - content < 2500


def test_the_protocols_of_the_paper():
    assert dataset("rmd17:uracil").protocol == Protocol(validation=9000, test=10000)
    assert dataset("ani1x").protocol == Protocol(test=10000)
    assert dataset("tio2").protocol == dataset("lmnto").protocol == Protocol(test=1000)
    assert dataset("md22:buckyball-catcher").protocol.train == 50
    assert dataset("aspirin-ccsd").protocol == Protocol(950, 50, 500)


def test_reference_energies_fit_the_real_data(real_data):
    """Without the energies of isolated atoms some 10 eV an atom of cohesion are left."""
    with gzip.open(real_data / "tio2.extxyz.gz", "rt") as file:
        first = read(io.StringIO("".join(file.readline() for _ in range(26))), format="extxyz")
    energies = dataset("tio2").reference_energies
    atoms = sum(energies[symbol] for symbol in first.symbols)
    assert -12 < (first.get_potential_energy() - atoms) / len(first) < -5


def test_the_units_of_the_real_files(real_data):
    from piwsl.data.read import read_frames

    for name, file in (("rmd17:aspirin", "rmd17_aspirin.npz"), ("aspirin-ccsd", "aspirin_ccsd.npz")):
        frames = read_frames(real_data / file, parse_units(dataset(name).units))
        rms = np.sqrt(np.mean([np.square(frames[i].forces).sum(1).mean() for i in range(20)]))
        assert 1.0 < rms < 3.0, name  # eV/angstrom at 500 K


@pytest.mark.parametrize("name", ["ani1x", "ANI1x", "rmd17:Aspirin", "md22:double-walled_nanotube", "aspirin_ccsd"])
def test_spelling(name):
    assert is_dataset(name)
    assert dataset(name).name in DATASETS


@pytest.mark.parametrize("name", ["rmd17", "rmd17_aspirin.npz", "frames.xyz", "runs/*.xyz", "C:/frames.xyz", ""])
def test_files_are_no_sets(name):
    assert not is_dataset(name)


def test_unknown_names():
    assert is_dataset("rmd17:water")  # no file: the error below helps better than "no such file"
    with pytest.raises(ConfigError, match="use rmd17:NAME with one of aspirin, azobenzene"):
        dataset("rmd17:water")
    with pytest.raises(ConfigError, match="fetch --list"):
        dataset("qm9")
