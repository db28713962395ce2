import json
import zipfile

import pytest
import torch
from torch import nn

from piwsl.errors import ModelFileError
from piwsl.export import exported_file as module
from piwsl.export.exported_file import load_exported, read_exported_info, save_exported


@pytest.fixture
def good(exports):
    return exports.openmm()


def test_a_torchscript_file_that_is_not_ours(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(tmp_path / "foreign.pt"))
    with pytest.raises(ModelFileError, match="TorchScript file of another program"):
        load_exported(tmp_path / "foreign.pt")


def test_a_trained_file_is_not_an_exported_one(exports):
    with pytest.raises(ModelFileError, match="not an exported piwsl potential"):
        load_exported(exports.trained())


def test_missing_and_truncated_files(tmp_path, good):
    with pytest.raises(ModelFileError, match="no such file"):
        load_exported(tmp_path / "none.pt")
    data = good.read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.pt").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ModelFileError, match=r"cut\.pt: damaged"):
            load_exported(tmp_path / "cut.pt")


@pytest.mark.parametrize(("version", "todo"), [(module.EXPORT_VERSION + 1, "update piwsl"), (1, "export the trained")])
def test_files_of_other_versions(tmp_path, good, version, todo):
    potential = load_exported(good)
    save_exported(potential.program, {**potential.info, "format_version": version}, tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match=f"format version {version}, but this piwsl reads version 3: {todo}"):
        load_exported(tmp_path / "other.pt")


def test_a_gpu_that_is_not_there(good):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelFileError, match="PyTorch finds no GPU"):
        load_exported(good, "cuda")


def replaced(good, path, contents=None, **changes):
    """Copy an exported file with other members, by suffix, and other values in its description."""
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(path, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("piwsl.json"):
                content = json.dumps({**json.loads(content), **changes})
            ending = next((suffix for suffix in contents or {} if name.endswith(suffix)), None)
            copy.writestr(name, content if ending is None else contents[ending])
    return path


def test_code_that_was_replaced_is_not_run(tmp_path, good):
    nonsense = replaced(good, tmp_path / "nonsense.pt", {"scripted.py": b"nonsense"})
    changed = r"nonsense\.pt: the member code/.*scripted\.py was changed after the export"
    for read in (read_exported_info, load_exported):
        with pytest.raises(ModelFileError, match=changed):
            read(nonsense)


def test_code_that_was_added_is_not_run(tmp_path, good):
    more = replaced(good, tmp_path / "more.pt")
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].split('/')[0]}/code/more.py", b"")
    with pytest.raises(ModelFileError, match=r"the member code/more\.py was changed after the export"):
        load_exported(more)


@pytest.mark.parametrize(
    "changes",
    [
        {"cutoff": "wide"},
        {"cutoff": float("nan")},
        {"species": [0]},
        {"species": "CCO"},
        {"species": []},
        {"copies": -1},
        {"check": {}},
        {"check": []},
        {"members": "two"},
        {"elements": [1.5]},
        {"format_of_program": "aotinductor"},
        {"format_of_program": "python"},
        {"training": None},
        {"sha256": []},
        {"domain": {"frames": "all"}},
        {"dtype": "float16"},
    ],
)
def test_a_description_of_wrong_types(tmp_path, good, changes):
    with pytest.raises(ModelFileError, match=r"wrong\.pt: .*damaged"):
        load_exported(replaced(good, tmp_path / "wrong.pt", **changes))


def test_a_damaged_description(tmp_path, good):
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(tmp_path / "damaged.pt", "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, b"{" if name.endswith("piwsl.json") else archive.read(name))
    with pytest.raises(ModelFileError, match="damaged"):
        read_exported_info(tmp_path / "damaged.pt")
    assert json.dumps(read_exported_info(good))
