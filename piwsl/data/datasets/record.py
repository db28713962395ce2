"""What is known about a named data set, and where it lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Protocol:
    """Sizes of the split that Takamoto, Zaverkin and Niepert (ICML 2025) use on a set.

    Attributes:
        train: training frames; None where the paper trains on several sizes.
        validation: validation frames; None: as many as for training, at least 100.
        test: test frames, the same for every training size; None where the paper names no number.
    """

    train: int | None = None
    validation: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class RemoteFile:
    """The file of a data set as it is published.

    Attributes:
        name: of the local copy.
        urls: addresses of the same file, tried in this order; none: it can only be downloaded by hand.
        page: where a person finds the file and its terms.
        source: where addresses and checksum were found.
        checksum: as published, ``md5:...`` or ``sha256:...``; None where none is.
        size: bytes; None where not known.
        members: files to take out of an archive, shell patterns; none: the file is read as it is.
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
        """How far a download can be trusted, in a word or two."""
        if not self.urls:
            return "by hand"
        return "checksum" if self.checksum else "no checksum"


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Attributes:
        name: as a user writes it, such as ``rmd17:aspirin``.
        content: what it holds, in a few words.
        frames: their number; None where it is not published.
        atoms: atoms of a frame, such as ``21`` or ``6-95``.
        units: of the file, energy and length.
        level: level of theory of the labels.
        citation: the paper.
        doi: of the paper.
        licence: as stated by whoever publishes the file; None where nothing is stated.
        file: where it lies.
        protocol: split of the paper on PITC and PISC.
        reference_energies: energy of an isolated atom at this level by element, eV, where published.
    """

    name: str
    content: str
    frames: int | None
    atoms: str
    units: str
    level: str
    citation: str
    doi: str
    licence: str | None
    file: RemoteFile
    protocol: Protocol = Protocol()
    reference_energies: Mapping[str, float] = field(default_factory=dict)
