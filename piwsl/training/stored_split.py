"""The split file of a training run: indices of the frames, and hashes of the data."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from piwsl.data.split import Split
from piwsl.errors import RunDirectoryError
from piwsl.runs.files import read_json_object, source_hash, write_text
from piwsl.runs.json_text import json_text
from piwsl.training.frames import TrainingFrames

_Index = Annotated[int, Field(ge=0)]


class _StoredSplit(BaseModel):
    """Content of the split file: indices of frames, and hashes of the data (absent in files of earlier versions)."""

    model_config = ConfigDict(strict=True)

    train: list[_Index]
    validation: list[_Index]
    test: list[_Index]
    levels: dict[str, Annotated[list[_Index], Field(min_length=1)]] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "_StoredSplit":
        try:
            return cls.model_validate(read_json_object(path))
        except (RunDirectoryError, ValidationError):
            raise RunDirectoryError(
                f"{path}: the file is damaged, so the run cannot be resumed: start a new run with another output"
            ) from None


def write_split(path: Path, frames: TrainingFrames, teacher_sha256: str = "") -> None:
    """Write the split and the hashes of the data and of the teacher to the split file of a run."""
    split = asdict(frames.split)
    if not frames.split.levels:
        del split["levels"]
    write_text(path, json_text({**split, "sha256": hashes_of(frames, teacher_sha256)}))


def stored_split(path: Path) -> Split | None:
    """Read the split written by an earlier session of a run.

    Returns:
        The split, or None if the earlier session ended before it wrote the file.

    Raises:
        RunDirectoryError: The file is damaged.
    """
    if not path.exists():
        return None
    stored = _StoredSplit.read(path)
    return Split(stored.train, stored.validation, stored.test, stored.levels)


def check_unchanged(path: Path, frames: TrainingFrames, teacher_sha256: str = "") -> None:
    """Raise an error if the data of a resumed run changed since the run began.

    Args:
        path: Split file of the run. Files of earlier versions contain no hashes and pass the check.
        frames: Frames that the resumed run has read.
        teacher_sha256: Hash of the teacher; empty without a teacher.

    Raises:
        RunDirectoryError: The hash of the data, of another file, or of the teacher differs.
    """
    if not path.exists():
        return
    earlier = _StoredSplit.read(path).sha256
    changed = [name for name, value in hashes_of(frames, teacher_sha256).items() if earlier.get(name, value) != value]
    if changed:
        raise RunDirectoryError(
            f"cannot resume {path.parent}: the {' and the '.join(changed)} of this run changed since it began "
            f"({frames.source}): restore the file, or start a new run with another output"
        )


def hashes_of(frames: TrainingFrames, teacher_sha256: str) -> dict[str, str]:
    """Return the hashes of the training data, of separate files with other frames, and of the teacher."""
    hashes = {"data": frames.sha256}
    if frames.test.files != frames.train.files:
        hashes["test file"] = source_hash(frames.test.files)
    if frames.unlabeled_sha256:
        hashes["unlabeled file"] = frames.unlabeled_sha256
    for level in frames.levels:
        hashes[f"data of level {level.name}"] = level.sha256
    if teacher_sha256:
        hashes["teacher"] = teacher_sha256
    return hashes
