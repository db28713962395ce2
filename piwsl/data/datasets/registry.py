"""Registry of the named data sets.

The addresses have not been tested. Each entry states the source of its address and checksum.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from piwsl.errors import ConfigError


@dataclass(frozen=True)
class Protocol:
    """Split of a data set in Takamoto, Zaverkin, Niepert (ICML 2025).

    Attributes:
        train: Number of training frames; None if the paper uses several sizes.
        validation: Number of validation frames; None for the number of training frames, at least 100.
        test: Number of test frames, the same for every training size; None if the paper states no number.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class RemoteFile:
    """Published file of a data set.

    Attributes:
        name: Name of the local copy.
        urls: Addresses of the same file, tried in this order; empty if the file can only be downloaded manually.
        page: Web page with the file and its terms of use.
        source: Source of the addresses and the checksum.
        checksum: Published checksum, ``md5:...`` or ``sha256:...``; None if none is published.
        size: Size in bytes; None if unknown.
        members: Shell patterns of the files to extract from an archive; empty if the file is not an archive.
    """

    name: str
    urls: tuple[str, ...]
    page: str
    source: str
    checksum: str | None = None
    size: int | None = None
    members: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Short description of how a download is verified."""
        if not self.urls:
            return "by hand"
        return "checksum" if self.checksum else "no checksum"


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Attributes:
        name: Public name, such as ``rmd17:aspirin``.
        content: Short description of the contents.
        frames: Number of frames; None if it is not published.
        atoms: Number of atoms per frame, such as ``21`` or ``6-95``.
        units: Units of energy and length in the file.
        level: Level of theory of the labels.
        citation: Paper on the data set.
        doi: DOI of the paper.
        license: License as stated by the publisher; None if none is stated.
        file: Published file.
        protocol: Split in the paper on PITC and PISC.
        reference_energies: Energies of isolated atoms at this level of theory by element, eV; empty if not published.
    """

    name: str
    content: str
    frames: int | None
    atoms: str
    units: str
    level: str
    citation: str
    doi: str
    license: str | None
    file: RemoteFile
    protocol: Protocol = Protocol()
    reference_energies: Mapping[str, float] = field(default_factory=dict)


# molecule -> (atoms, file number at figshare, MD5 published by figshare, bytes)
_RMD17 = {
    "aspirin": ("21", 62265757, "17fd6fb69066888613f7e16b358a7553", 153_601_803),
    "azobenzene": ("24", 62265754, "be79df918468eb3579aa73a0becf7390", 175_180_782),
    "benzene": ("12", 62265739, "18c9242bc90fbf28215f6dd81e650f16", 88_801_794),
    "ethanol": ("9", 62265733, "eb837fb8deb27d4e0d52f71a03aff776", 67_201_791),
    "malonaldehyde": ("9", 62265736, "cdc1d70c0c34062ddde6e5071eb6fe21", 67_201_791),
    "naphthalene": ("18", 62265751, "0efba19c9907e3852318b1e6008b3b9e", 132_001_800),
    "paracetamol": ("20", 62265760, "ba10784f7b67635427085f6d7ec2dd97", 146_401_802),
    "salicylic": ("16", 62265748, "900fedf242da438400fa4293348d7dd1", 117_601_798),
    "toluene": ("15", 62265742, "0f2913d51f8149c90ab28d697a076f64", 110_401_797),
    "uracil": ("12", 62265745, "992a4479c28a07e0cce6da964805be31", 88_801_794),
}

# molecule -> (atoms, frames, name in the file name)
_MD22 = {
    "Ac-Ala3-NHMe": ("42", 85_109, "Ac-Ala3-NHMe"),
    "DHA": ("56", 69_753, "DHA"),
    "stachyose": ("87", 27_272, "stachyose"),
    "AT-AT": ("60", 20_001, "AT-AT"),
    "AT-AT-CG-CG": ("118", 10_153, "AT-AT-CG-CG"),
    "buckyball-catcher": ("148", 6_102, "buckyball-catcher"),
    "double-walled-nanotube": ("370", 5_032, "double-walled_nanotube"),
}


def _figshare(number: int) -> tuple[str, ...]:
    # The first address may return a browser challenge (202, no content); the second is meant for programs.
    return (
        f"https://ndownloader.figshare.com/files/{number}",
        f"https://api.figshare.com/v2/file/download/{number}",
    )


def _sgdml(path: str) -> tuple[str, ...]:
    return (
        f"https://sgdml.org/secure_proxy.php?file={path}",
        f"http://www.quantum-machine.org/gdml/{path}",
    )


def _rmd17(molecule: str) -> Dataset:
    atoms, number, md5, size = _RMD17[molecule]
    return Dataset(
        name=f"rmd17:{molecule}",
        content=f"{molecule}, dynamics at 500 K",
        frames=99_988 if molecule == "azobenzene" else 100_000,
        atoms=atoms,
        units="kcal/mol, angstrom",
        level="PBE/def2-SVP",
        citation="Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)",
        doi="10.1088/2632-2153/abba6f",
        license="CC0",
        file=RemoteFile(
            name=f"rmd17_{molecule}.npz",
            urls=_figshare(number),
            page="https://doi.org/10.6084/m9.figshare.12672038",
            source="figshare article 12672038; file number, MD5 and size as two independent public loaders record them",
            checksum=f"md5:{md5}",
            size=size,
        ),
        protocol=Protocol(validation=9_000, test=10_000),
    )


def _md22(molecule: str) -> Dataset:
    atoms, frames, name = _MD22[molecule]
    return Dataset(
        name=f"md22:{molecule}",
        content=f"{molecule}, dynamics",
        frames=frames,
        atoms=atoms,
        units="kcal/mol, angstrom",
        level="PBE+MBD",
        citation="Chmiela et al., Sci. Adv. 9, eadf0873 (2023)",
        doi="10.1126/sciadv.adf0873",
        license=None,
        file=RemoteFile(
            name=f"md22_{name}.npz",
            urls=_sgdml(f"repo/datasets/md22_{name}.npz"),
            page="http://www.sgdml.org/#datasets",
            source="addresses as the loader of SchNetPack and other public loaders use them; no checksum is published",
        ),
        protocol=Protocol(train=50) if molecule == "buckyball-catcher" else Protocol(),
    )


_ANI1X = Dataset(
    name="ani1x",
    content="63 865 molecules of H, C, N, O, off equilibrium",
    frames=4_956_005,
    atoms="2-63",
    units="hartree, angstrom",
    level="wB97x/6-31G(d)",
    citation="Smith et al., Sci. Data 7, 134 (2020)",
    doi="10.1038/s41597-020-0473-z",
    license="CC0",
    file=RemoteFile(
        name="ani1x-release.h5",
        urls=("https://springernature.figshare.com/ndownloader/files/18112775", *_figshare(18112775)),
        page="https://doi.org/10.6084/m9.figshare.10047041",
        source="figshare article 10047041; MD5 and size as four independent public sources record them",
        checksum="md5:98090dd6679106da861f52bed825ffb7",
        size=5_590_846_027,
    ),
    protocol=Protocol(test=10_000),
)

_TIO2 = Dataset(
    name="tio2",
    content="TiO2 crystals, distorted, and from dynamics; periodic",
    frames=7_815,
    atoms="6-95",
    units="eV, angstrom",
    level="PBE",
    citation="Artrith, Urban, Comput. Mater. Sci. 114, 135 (2016)",
    doi="10.1016/j.commatsci.2015.11.047",
    license=None,
    file=RemoteFile(
        name="aenet-example-02-TiO2-Chebyshev.tar.bz2",
        urls=("http://ann.atomistic.net/files/aenet-example-02-TiO2-Chebyshev.tar.bz2",),
        page="http://ann.atomistic.net/download/",
        source="address and folder as the tests of a public aenet loader use them; no checksum is published",
        members=("*/TiO2-xsf/*.xsf",),
    ),
    protocol=Protocol(test=1_000),
    reference_energies={"Ti": -1604.604515075, "O": -432.503149303},
)

_LMNTO = Dataset(
    name="lmnto",
    content="Li8Mo2Ni7Ti7O32, dynamics at 400 K; periodic",
    frames=None,
    atoms="56",
    units="eV, angstrom",
    level="SCAN",
    citation="Cooper, Kästner, Urban, Artrith, npj Comput. Mater. 6, 54 (2020)",
    doi="10.1038/s41524-020-0323-8",
    license=None,
    file=RemoteFile(
        name="lmnto",
        urls=(),
        page="https://doi.org/10.24435/materialscloud:2020.0037/v1",
        source="data availability of the paper; no address of the file itself was found",
    ),
    protocol=Protocol(test=1_000),
)

_ASPIRIN_CCSD = Dataset(
    name="aspirin-ccsd",
    content="aspirin, dynamics at 500 K",
    frames=1_500,
    atoms="21",
    units="kcal/mol, angstrom",
    level="CCSD/cc-pVDZ",
    citation="Chmiela, Sauceda, Müller, Tkatchenko, Nat. Commun. 9, 3887 (2018)",
    doi="10.1038/s41467-018-06169-2",
    license=None,
    file=RemoteFile(
        name="aspirin_ccsd.zip",
        urls=_sgdml("data/npz/aspirin_ccsd.zip"),
        page="http://www.sgdml.org/#datasets",
        source="addresses as PyTorch Geometric and other public loaders use them; no checksum is published",
        members=("*aspirin_ccsd-train.npz", "*aspirin_ccsd-test.npz"),
    ),
    protocol=Protocol(train=950, validation=50, test=500),
)

DATASETS: dict[str, Dataset] = {
    record.name: record
    for record in (
        *(_rmd17(molecule) for molecule in _RMD17),
        *(_md22(molecule) for molecule in _MD22),
        _ANI1X,
        _TIO2,
        _LMNTO,
        _ASPIRIN_CCSD,
    )
}
_FAMILIES = sorted({name.partition(":")[0] for name in DATASETS if ":" in name})


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")


_BY_PLAIN_NAME = {_plain(name): record for name, record in DATASETS.items()}


def is_dataset(name: str) -> bool:
    """Return whether a name refers to a data set, such as ``ani1x`` or ``rmd17:...``, and not to a file."""
    family, colon, _ = _plain(name).partition(":")
    return _plain(name) in _BY_PLAIN_NAME or bool(colon and family in _FAMILIES)


def dataset(name: str) -> Dataset:
    """Look up a data set by name. Case is ignored, and ``-`` and ``_`` are equivalent.

    Raises:
        ConfigError: No data set has this name.
    """
    record = _BY_PLAIN_NAME.get(_plain(name))
    if record is not None:
        return record
    family = _plain(name).partition(":")[0]
    known = [other.partition(":")[2] for other in DATASETS if other.startswith(f"{family}:")]
    if known:
        raise ConfigError(f"unknown data set {name!r}: use {family}:NAME with one of {', '.join(known)}")
    single = [other for other in DATASETS if ":" not in other]
    raise ConfigError(
        f"unknown data set {name!r}: use one of {', '.join(single)}, {', '.join(f'{f}:...' for f in _FAMILIES)} "
        "(`piwsl data fetch --list`)"
    )
