"""Pickled models for tests of the readers of foundation models: changed, damaged and malicious ones."""

import io
import pickle
import pickletools
import sys
import types
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = "archive"


def write_archive(path: Path, program: bytes, entries: dict[str, bytes] | None = None, compression: int = 0) -> Path:
    """Write an archive like that of ``torch.save`` with any pickle in it."""
    with zipfile.ZipFile(path, "w", compression or zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{ROOT}/data.pkl", program)
        archive.writestr(f"{ROOT}/byteorder", b"little")
        for name, content in (entries or {}).items():
            archive.writestr(f"{ROOT}/{name}", content)
    return path


def changed_file(source: Path, target: Path, attributes: dict[str, Any]) -> Path:
    """Copy the file of a module with other attributes of the module itself."""
    with foreign_classes(source):
        module = torch.load(source, weights_only=False)
        vars(module).update(attributes)
        torch.save(module, target)
    return target


@contextmanager
def foreign_classes(source: Path):
    """Make empty classes importable for all names in a file that belong to a program that is not installed."""
    with zipfile.ZipFile(source) as archive:
        program = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    names = {tuple(argument.split(" ")) for code, argument, _ in pickletools.genops(program) if code.name == "GLOBAL"}
    added = []
    try:
        for module_name, name in sorted(names):
            if module_name.split(".")[0] in ("torch", "collections", "builtins", "__builtin__", "_codecs"):
                continue
            for depth in range(1, module_name.count(".") + 2):
                part = ".".join(module_name.split(".")[:depth])
                if part not in sys.modules:
                    sys.modules[part] = types.ModuleType(part)
                    added.append(part)
            made = type(name, (nn.Module,), {"__module__": module_name})
            setattr(sys.modules[module_name], name, made)
        yield
    finally:
        for part in added:
            del sys.modules[part]


def saved(content: Any) -> bytes:
    """Return the bytes of ``torch.save``."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Command:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def program_of(content: Any) -> bytes:
    """Return the pickle of an object, protocol 2."""
    return pickle.dumps(content, protocol=2)
