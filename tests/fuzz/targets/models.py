"""Trained and exported models, checkpoints, and models of other packages."""

import gzip
import io
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from piwsl.export.compiled_cache import compile_or_copy
from piwsl.export.exported_file import load_exported
from piwsl.export.exporter import Exporter
from piwsl.export.import_model import import_model
from piwsl.export.trained_file import load_trained
from piwsl.training.checkpoints import read_checkpoint
from tests.fuzz.digest import digest_of
from tests.fuzz.harness import Target
from tests.fuzz.mutations import ZIP, Mutation
from tests.support.models_for_tests import file_with_heads, trained_file
from tests.support.molecules import frame

FOUNDATION = Path(__file__).parents[2] / "models" / "foundation"
WATER = frame("H2O")


def _trained(path: Path) -> str:
    model = load_trained(path)
    model.potential()
    levels = [model, *(model.at_level(name) for name in model.levels)]
    return digest_of(*(value for level in levels for value in (*level.tensors.values(), level.scale, level.training)))


def _exported(path: Path) -> str:
    potential = load_exported(path)
    program = potential.program
    weights = program.state_dict().values() if isinstance(program, torch.jit.ScriptModule) else ()
    return digest_of(*weights, potential.info)


@lru_cache
def _content(make: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"made{suffix}"
        make(path)
        return path.read_bytes()


def _once(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make the file of a slow function once."""
    return lambda path: path.write_bytes(_content(make, path.suffix)) and None


def _small(path: Path) -> Path:
    return trained_file(path, layers=1, channels=4)


def _exporter(folder: Path) -> Exporter:
    return Exporter([_small(folder / "model.pt")])


def _molecule(path: Path) -> None:
    _exporter(path.parent).openmm(WATER, path)


def _general(path: Path) -> None:
    _exporter(path.parent).general(path)


def _compiled(path: Path) -> None:
    compile_or_copy(_exporter(path.parent), WATER, path)


def _checkpoint(path: Path) -> None:
    torch.manual_seed(0)
    parts = {"global_step": 7, "epoch": 0, "optimizer_states": [], "loops": {}}
    torch.save({"state_dict": dict(torch.nn.Linear(3, 2).state_dict()), **parts}, path)


def _read_checkpoint(path: Path) -> str:
    stored = read_checkpoint(path)
    return digest_of(*stored["state_dict"].values(), stored["global_step"])


def _imported(path: Path, head: str | None = None) -> str:
    output = path.parent / "tmp" / "model.pt"
    try:
        import_model(path, output, head=head)
        return _trained(output)
    finally:
        output.unlink(missing_ok=True)


def _imported_head(path: Path) -> str:
    return _imported(path, "high")


def change_program(data: bytes, rng: random.Random) -> bytes:
    """Change bytes of the pickle in an archive, most of whose bytes are weights."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members:
            if name.endswith("data.pkl"):
                changed = bytearray(content)
                for _ in range(rng.choice((1, 1, 2, 5))):
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
                content = bytes(changed)
            archive.writestr(name, content)
    return written.getvalue()


def _bomb(path: Path) -> None:
    """256 MB of zeros in 256 kB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model/data.pkl", "w", force_zip64=True) as member,
    ):
        for _ in range(256):
            member.write(bytes(2**20))


def _wheel(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(FOUNDATION / "so3lr_small.model", "so3krates_torch/pretrained/so3lr/so3lr.model")


def _unpacked(name: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(gzip.decompress((FOUNDATION / name).read_bytes())) and None


ARCHIVE: tuple[Mutation, ...] = (*ZIP, change_program, change_program)
BOMB = {"a bomb": _bomb}
TARGETS = [
    Target("model", "model.pt", _once(_small), _trained, ARCHIVE, BOMB, sealed=True),
    Target("model-heads", "model.pt", _once(file_with_heads), _trained, ARCHIVE, sealed=True),
    Target("checkpoint", "best.ckpt", _once(_checkpoint), _read_checkpoint, ARCHIVE, BOMB, sealed=True),
    Target("exported-molecule", "a.pt", _once(_molecule), _exported, ARCHIVE, BOMB, sealed=True, seconds=2),
    Target("exported-general", "a.pt", _once(_general), _exported, ARCHIVE, sealed=True, seconds=2),
    Target("compiled", "a.pt2", _once(_compiled), _exported, ZIP, BOMB, sealed=True, seconds=15),
    Target("mace", "a.model", _unpacked("mace_residual.model.gz"), _imported, ARCHIVE, BOMB),
    Target("mace-heads", "a.model", _unpacked("mace_agnostic_heads.model.gz"), _imported_head, ARCHIVE),
    Target("so3lr", "a.model", lambda path: shutil.copy(FOUNDATION / "so3lr_small.model", path), _imported, ARCHIVE),
    Target("wheel", "a.whl", _wheel, _imported, ZIP),
]
