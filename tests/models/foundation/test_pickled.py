"""Reading pickled modules as data: honest files, damaged ones, and files that try to run something."""

import os
import pickle
import resource
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from piwsl.errors import ModelFileError
from piwsl.models.foundation import archive
from piwsl.models.foundation.pickled import Name, Record, read_pickled, submodule, tensors_of
from tests.support.foundation_files import ROOT, Command, program_of, saved, write_archive

KNOWN = {
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Linear",
    "torch.nn.modules.activation.SiLU",
    "torch.bfloat16",
}
MODULE = "torch.nn.modules.container.Sequential"


def module():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Sequential(nn.Linear(4, 1, bias=False)))
    made.register_buffer("transposed", torch.arange(6.0).reshape(2, 3).t())
    made.register_buffer("coarse", torch.arange(3, dtype=torch.bfloat16))
    made[0].width = 4
    made.dtype = torch.float32
    return made


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "module.model"
    torch.save(module(), path)
    return path


def refused(path, match, known=KNOWN):
    with pytest.raises(ModelFileError, match=match) as caught:
        read_pickled(path, known)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tensors_and_attributes_of_a_module(file):
    record, expected = read_pickled(file, KNOWN), module()
    tensors = tensors_of(record)
    assert set(tensors) == set(expected.state_dict())
    for name, value in expected.state_dict().items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)
    assert record.name == MODULE
    assert submodule(record, "2.0").attribute("out_features") == 1
    assert record.attribute("0").attribute("width") == 4
    assert record.attribute("dtype") == Name("torch.float32")
    assert record.attribute("nothing", 3) == 3
    with pytest.raises(KeyError):
        submodule(record, "2.7")


def test_every_protocol_of_pickle_that_torch_can_write(tmp_path):
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.model"
        torch.save(module(), path, pickle_protocol=protocol)
        assert torch.equal(tensors_of(read_pickled(path, KNOWN))["0.weight"], module()[0].weight)


def test_a_name_that_is_not_known_is_refused_by_name(file):
    refused(
        file,
        r"contains torch\.nn\.modules\.activation\.SiLU, .*: refused",
        KNOWN - {"torch.nn.modules.activation.SiLU"},
    )


@pytest.mark.parametrize(
    "function", ["os.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "builtins.getattr"]
)
def test_a_command_does_not_run(tmp_path, function):
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w').close()"
    functions = {
        "os.system": (os.system, f"touch {marker}"),
        "builtins.eval": (eval, code),
        "builtins.exec": (exec, code),
        "subprocess.Popen": (__import__("subprocess").Popen, ["touch", str(marker)]),
        "builtins.getattr": (getattr, "", "join"),
    }
    program = program_of(Command(*functions[function]))
    path = write_archive(tmp_path / "evil.model", program)
    # The names that pickle gives these functions in protocol 2.
    renamed = {"os.system": "posix.system", "subprocess.Popen": "commands.Popen"}
    shown = renamed.get(function, function.replace("builtins", "__builtin__"))
    refused(path, f"contains {shown.replace('.', '[.]')}, which is no part of such a model")
    assert not marker.exists()
    if function == "os.system":  # the file is a real attack
        pickle.loads(program)
        assert marker.exists()


def test_many_copies_of_a_large_object_are_refused(tmp_path):
    """A few bytes of a pickle copy a list or a tensor again."""
    values = b"]q\x01(" + b"N" * 1_000_000 + b"e"
    program = b"\x80\x02(" + values + b"c__builtin__\nset\nq\x02" + b"h\x02h\x01\x85R" * 1000 + b"t."
    large = torch.zeros(2**20)
    (tmp_path / "views.model").write_bytes(saved([large[number:] for number in range(1000)]))
    for path in (write_archive(tmp_path / "lists.model", program), tmp_path / "views.model"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refused(path, "contains far more copies of its content than the size of the file allows")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kB


def test_a_command_hidden_in_a_module_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    made = module()
    made.hook = Command(os.system, f"touch {marker}")
    path = tmp_path / "evil.model"
    path.write_bytes(saved(made))
    refused(path, r"contains posix\.system")
    assert not marker.exists()


# Programs in pickle's own operations: GLOBAL c, MARK (, TUPLE t, REDUCE R, BUILD b, NEWOBJ \x81, STOP .
SEQUENTIAL = b"ctorch.nn.modules.container\nSequential\n"
CONTAINERS = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    ("program", "match"),
    [
        # the result of a known class, called again
        (SEQUENTIAL + b"(tR(tR.", "a call of something that is no named class"),
        # an instance of a class that is made on the way
        (b"\x80\x02]" + b"(tR.", "a call of something that is no named class"),
        # the old operations that call classes by name
        (b"(i" + b"os\nsystem\n.", "the pickle operation INST"),
        (b"(" + SEQUENTIAL + b"o.", "the pickle operation OBJ"),
        # codes of the registry of copyreg
        (b"\x82\x01.", "the pickle operation EXT1"),
        # attributes through names with dots
        (b"\x80\x04\x8c\x05torch\x8c\x0c_utils.os.fd\x93.", r"contains torch\._utils\.os\.fd"),
        # a storage that no tensor of torch has
        (b"(" + SEQUENTIAL + b"tQ.", "its pickle is damaged"),
        # a buffer from outside of the pickle
        (b"\x80\x05\x97.", "the pickle operation NEXT_BUFFER"),
    ],
)
def test_tricks_of_the_stack_machine_are_refused(tmp_path, program, match):
    refused(write_archive(tmp_path / "evil.model", program), match)


def test_a_state_given_to_a_class_or_a_dictionary_changes_nothing(tmp_path):
    marker = tmp_path / "ran"
    # State for the class itself, with a __reduce__ and a __setstate__; then an object of the class.
    state = b"}(X\x0a\x00\x00\x00__reduce__K\x01X\x0c\x00\x00\x00__setstate__K\x02u"
    program = b"\x80\x02" + SEQUENTIAL + state + b"b)\x81" + state + b"b."
    record = read_pickled(write_archive(tmp_path / "evil.model", program), KNOWN)
    assert record.state == {"__reduce__": 1, "__setstate__": 2}
    assert type(record) is Record
    assert Record.__reduce__ is object.__reduce__
    assert not marker.exists()


@pytest.mark.slow
def test_a_compressed_archive_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.model"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr(f"{ROOT}/data.pkl", SEQUENTIAL + b")\x81.")
        bomb.writestr(f"{ROOT}/data/0", bytes(2**28))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    refused(path, "is compressed, but torch.save never compresses: refused")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_entries_that_overlap_are_refused(tmp_path):
    """One region of the file, listed many times, adds up to more than the file."""
    path = tmp_path / "bomb.model"
    content = bytes(2**16)
    with zipfile.ZipFile(path, "w") as bomb:
        bomb.writestr(f"{ROOT}/data.pkl", SEQUENTIAL + b")\x81.")
        bomb.writestr(f"{ROOT}/data/0", content)
        listed = bomb.getinfo(f"{ROOT}/data/0")
        for number in range(1, 100):
            copy = zipfile.ZipInfo(f"{ROOT}/data/{number}")
            copy.header_offset, copy.CRC = listed.header_offset, listed.CRC
            copy.file_size = copy.compress_size = listed.file_size
            bomb.filelist.append(copy)
            bomb.NameToInfo[copy.filename] = copy
        bomb._didModify = True
    refused(path, "its entries are larger than the file: refused")


def tensor_program(count, size, stride, offset=0, key=b"0"):
    """A module whose buffer is one tensor with these sizes, in pickle's own operations."""

    def numbers(values):
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    storage = (
        b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(key) + text(b"cpu") + numbers([count])[1:-1] + b"tQ"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers([offset])[1:-1] + numbers(size) + numbers(stride)
    )
    tensor += b"\x89" + CONTAINERS + b")RtR"
    return b"\x80\x02" + SEQUENTIAL + b")\x81}" + text(b"_buffers") + b"}" + text(b"x") + tensor + b"ssb."


def test_a_tensor_of_a_hand_written_pickle(tmp_path):
    path = write_archive(
        tmp_path / "fine.model", tensor_program(6, [3, 2], [1, 3]), {"data/0": struct.pack("<6f", *range(6))}
    )
    assert torch.equal(tensors_of(read_pickled(path, KNOWN))["x"], torch.arange(6.0).reshape(2, 3).t())


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((4, [2**20, 2**20], [0, 0]), "does not fit its storage"),
        ((4, [5], [1]), "does not fit its storage"),
        ((4, [2], [1], 3), "does not fit its storage"),
        ((4, [2], [2**40]), "does not fit its storage"),
        ((4, [2], [-1], 1), "does not fit its storage"),
        ((4, [2], [1], -1), "does not fit its storage"),
        ((4, [0, 2**40], [0, 1]), "does not fit its storage"),
        ((2**39, [1], [1]), "has 16 bytes, expected 2199023255552"),
        ((5, [1], [1]), "has 16 bytes, expected 20"),
        ((-4, [1], [1]), "without a name or a size"),
        ((4, [1], [1], 0, b"../../0"), "has no entry data/../../0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, arguments, match):
    path = write_archive(tmp_path / "sizes.model", tensor_program(*arguments), {"data/0": bytes(16)})
    tracemalloc.start()
    refused(path, match)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_pickle_that_is_too_large_is_refused(tmp_path, monkeypatch):
    # The limit is 16 MB; files of that size would take the time of the test.
    monkeypatch.setattr(archive, "LARGEST_PICKLE", 1000)
    path = write_archive(tmp_path / "large.model", b"\x80\x02" + b"]" * 2000 + b".")
    refused(path, "has 2003 bytes, at most 1000 are read")


@pytest.mark.slow
def test_deep_nesting_and_keys_that_hash_for_ever(tmp_path):
    deep = b"\x80\x02" + b")" + b"\x85" * 200_000 + b"."
    refused(write_archive(tmp_path / "deep.model", deep), "contains no module")
    as_key = b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s."
    refused(write_archive(tmp_path / "key.model", as_key), "a key of type tuple")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not an archive of torch.save"),
        (b"PK\x03\x04 nothing", "not an archive of torch.save"),
        (pickle.dumps({"a": 1}), "not an archive of torch.save"),
    ],
)
def test_files_of_another_kind(tmp_path, content, match):
    path = tmp_path / "other.model"
    path.write_bytes(content)
    refused(path, match)


def test_a_state_dict_a_torchscript_program_and_a_missing_file(tmp_path):
    state = tmp_path / "state.pt"
    torch.save(OrderedDict(module().state_dict()), state)
    refused(state, "contains no module: name the file of a whole model, not of its weights")
    script = tmp_path / "script.pt"
    torch.jit.script(nn.Linear(2, 2)).save(str(script))
    refused(script, "a TorchScript program")
    refused(tmp_path / "nothing.model", "no such file")
    refused(tmp_path, "a directory, not a file")


def test_damaged_files_are_one_line(file, tmp_path):
    """Every cut and many changed bytes end in an error of piwsl or in a record, never in another exception."""
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as opened:
        program = opened.read(next(name for name in opened.namelist() if name.endswith("/data.pkl")))
    start = bytes(content).index(program)
    damaged = tmp_path / "damaged.model"
    for length in range(0, len(content), 97):
        damaged.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            read_pickled(damaged, KNOWN)
    generator = torch.Generator().manual_seed(0)
    messages = []
    for _ in range(300):
        place = int(torch.randint(len(program), (1,), generator=generator))
        changed = bytearray(program)
        changed[place] = int(torch.randint(256, (1,), generator=generator))
        entries = {}
        with zipfile.ZipFile(file) as opened:
            for name in opened.namelist():
                if "/data/" in name:
                    entries["data/" + name.split("/data/")[1]] = opened.read(name)
        write_archive(damaged, bytes(changed), entries)
        try:
            read_pickled(damaged, KNOWN)
        except ModelFileError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)
    assert start > 0


def test_nothing_is_imported(tmp_path):
    """A class of a module that exists, but is not loaded, stays a name."""
    folder = tmp_path / "planted_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Layer: pass\n")
    path = write_archive(tmp_path / "evil.model", b"\x80\x02cplanted_package\nLayer\n)\x81.")
    previous = Path.cwd()
    os.chdir(tmp_path)
    try:
        record = read_pickled(path, {"planted_package.Layer"})
    finally:
        os.chdir(previous)
    assert record.name == "planted_package.Layer"
    assert not (tmp_path / "ran").exists()
