"""Pickled models as inert data.

A pickle is a program for a small stack machine. The machine of Python calls every function that the program names. The
machine in this module calls none of them: an object of a class becomes a `Record` with the name of the class, its
arguments and its state. Only tensors and Python's containers become actual objects. A name that is not expected in the
file is rejected.
"""

import math
import pickletools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from piwsl.errors import ModelFileError, quoted, reason_of, shortened
from piwsl.models.foundation.archive import Archive, strided

# Names that files of PyTorch contain in addition to the names of the model.
PLAIN = frozenset(
    {
        "__builtin__.set",
        "__builtin__.slice",
        "_codecs.encode",
        "builtins.set",
        "builtins.slice",
        "collections.OrderedDict",
        "torch.BFloat16Storage",
        "torch.BoolStorage",
        "torch.ByteStorage",
        "torch.DoubleStorage",
        "torch.FloatStorage",
        "torch.HalfStorage",
        "torch.IntStorage",
        "torch.LongStorage",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.device",
        "torch.float32",
        "torch.float64",
        "torch.int32",
        "torch.int64",
    }
)
_STORAGES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
}
_MOST_DIMENSIONS = 16
# Bytes of the copies that a pickle may request, in addition to a multiple of the size of the file. A few bytes of a
# pickle can copy a large object again.
_COPIED, _COPIES = 2**28, 4
_KEYS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Name:
    """Name of a class or function, which is not imported."""

    name: str


@dataclass(eq=False)
class Record:
    """Object of a class, as data.

    Attributes:
        name: Name of the class, or of the function that would create the object.
        arguments: Arguments of the class or function.
        state: Attributes of the object; None if it has no state.
        content: Elements or entries that would be added to the object.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None
    content: list[Any] = field(default_factory=list)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the state. For a PyTorch module, it may be a parameter, buffer or submodule."""
        if not isinstance(self.state, dict):
            return default
        if name in self.state:
            return self.state[name]
        for group in ("_parameters", "_buffers", "_modules"):
            members = self.state.get(group)
            if isinstance(members, dict) and name in members:
                return members[name]
        return default


def shown(value: Any, inner: bool = False) -> str:
    """Return a value from a file for use in a message.

    Objects inside of lists are named by their type, because nested lists that share their parts can have texts of
    exponential length.
    """
    if isinstance(value, Record | Name):
        return value.name
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple) and not inner:
        return f"[{', '.join(shown(one, inner=True) for one in value[:8])}{', ...' if len(value) > 8 else ''}]"
    short = isinstance(value, int) and value.bit_length() < 64
    return repr(value) if short or isinstance(value, float | None) else type(value).__name__


@contextmanager
def conversion_errors(path: Path, what: str) -> Iterator[None]:
    """Convert errors about unexpected content of a file to a one-line ModelFileError.

    Args:
        path: Path of the file.
        what: Kind of the model with its article.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise ModelFileError(f"{path}: not {what} that piwsl represents ({reason})") from None


def read_pickled(path: Path, known: Collection[str]) -> Record:
    """Read a file that contains a whole pickled module, without executing any of its code.

    Args:
        path: Path of the file, which ``torch.save`` wrote.
        known: Names of classes and functions that may occur in the file, in addition to `PLAIN`.

    Returns:
        The record of the module.

    Raises:
        ModelFileError: The file is missing or damaged, contains another name, or does not contain a module.
    """
    with Archive(path) as archive:
        machine = _Machine(archive, frozenset(known) | PLAIN)
        try:
            result = machine.run(archive.pickle())
        except ModelFileError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, UnicodeError) as error:
            raise ModelFileError(f"{path}: its pickle is damaged ({reason_of(error)})") from None
    if not isinstance(result, Record):
        raise ModelFileError(f"{path}: contains no module: name the file of a whole model, not of its weights")
    return result


def tensors_of(module: Record) -> dict[str, Tensor]:
    """Return the parameters and buffers in the record of a PyTorch module, by the names in its ``state_dict``."""
    tensors: dict[str, Tensor] = {}
    waiting: list[tuple[str, Record, int]] = [("", module, 0)]
    while waiting:
        prefix, record, depth = waiting.pop()
        if not isinstance(record.state, dict) or depth > 64:
            continue
        for group in ("_parameters", "_buffers"):
            for name, value in _entries(record.state.get(group)):
                if isinstance(value, Tensor):
                    tensors[f"{prefix}{name}"] = value
        for name, value in _entries(record.state.get("_modules")):
            if isinstance(value, Record):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
    return tensors


def submodule(module: Record, path: str) -> Record:
    """Return the record of a submodule by its dotted name.

    Raises:
        KeyError: No submodule has this name.
    """
    for name in path.split("."):
        found = module.attribute(name)
        if not isinstance(found, Record):
            raise KeyError(path)
        module = found
    return module


def _entries(group: Any) -> list[tuple[str, Any]]:
    return list(group.items()) if isinstance(group, dict) else []


class _Machine:
    """Stack machine with the operations of pickle protocols 2 to 5 that describe data."""

    def __init__(self, archive: Archive, known: frozenset[str]) -> None:
        self.archive = archive
        self.known = known
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Tensor] = {}
        self.budget = _COPIED + _COPIES * archive.path.stat().st_size

    def run(self, program: bytes) -> Any:
        """Execute a program and return the object that it describes."""
        for opcode, argument, _ in pickletools.genops(program):
            name = opcode.name
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _LITERALS:
                self.stack.append(argument)
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                self._name(argument)
            elif name == "STOP":
                return self.stack.pop()
            elif name not in ("PROTO", "FRAME"):
                action = _ACTIONS.get(name)
                if action is None:
                    raise self._refused(f"the pickle operation {name}")
                action(self, argument)
        raise ValueError("no end")

    def _refused(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self.archive.path}: contains {what}, which is no part of such a model: refused")

    def _name(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
            if not isinstance(name, str) or not isinstance(module, str):
                raise TypeError("a name that is no text")
            full = f"{module}.{name}"
        else:
            full = argument.replace(" ", ".", 1)
        if full not in self.known:
            raise self._refused(full[:200])
        self.stack.append(Name(full))

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def tuple_of(self, count: int | None) -> None:
        if count is None:
            items = self.above_mark()
        else:
            if len(self.stack) < count:
                raise IndexError("stack is empty")
            items = self.stack[-count:]
            del self.stack[-count:]
        self.stack.append(tuple(items))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        (target.content if isinstance(target, Record) else self._list(target)).extend(items)

    def enter(self, items: list[Any]) -> None:
        target = self.stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if isinstance(target, Record):
            target.content.extend(pairs)
            return
        if not isinstance(target, dict):
            raise TypeError("entries of an object that is no dictionary")
        for key, value in pairs:
            if isinstance(key, Tensor | Record):  # such keys are never looked up
                key = f"object {id(key)}"
            if not isinstance(key, _KEYS):
                raise TypeError(f"a key of type {type(key).__name__}")
            target[key] = value

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Record):
            target.state = state

    def make(self, arguments: Any, maker: Any) -> None:
        if not isinstance(maker, Name) or not isinstance(arguments, tuple):
            raise self._refused("a call of something that is no named class or function")
        self.stack.append(self._made(maker.name, arguments))

    def _spend(self, size: int) -> None:
        """Count the bytes of a copy."""
        self.budget -= size
        if self.budget < 0:
            raise self._refused("far more copies of its content than the size of the file allows")

    def _made(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "collections.OrderedDict":
            return {}
        if name in ("__builtin__.set", "builtins.set"):
            return self._items(arguments[0]) if arguments else []
        if name == "torch.Size":
            return tuple(self._items(arguments[0]))
        if name == "_codecs.encode" and isinstance(arguments[0], str):
            self._spend(len(arguments[0]))
            return arguments[0].encode("latin1")
        if name == "torch._utils._rebuild_parameter":
            return arguments[0]
        if name == "torch._utils._rebuild_tensor_v2":
            return self._tensor(*arguments[:4])
        return Record(name, arguments)

    def _items(self, value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise TypeError("elements of an object that is no list")
        self._spend(8 * len(value))
        return list(value)

    def _tensor(self, storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        whole = all(isinstance(value, int) and value.bit_length() < 64 for value in (offset, *size, *stride))
        view = None
        if isinstance(storage, Tensor) and whole and len(size) <= _MOST_DIMENSIONS:
            self._spend(min(math.prod(size), len(storage)) * storage.element_size())
            view = strided(storage, offset, tuple(size), tuple(stride))
        if view is None:
            raise ModelFileError(
                f"{self.archive.path}: a tensor of size {shown(size)} does not fit its storage: refused"
            )
        return view

    def persistent(self, _: Any) -> None:
        identifier = self.stack.pop()
        kind, storage, key, _device, count = identifier
        if kind != "storage" or not isinstance(storage, Name) or storage.name not in _STORAGES:
            raise self._refused("a storage of an unknown type")
        if not isinstance(key, str) or not isinstance(count, int) or not 0 <= count < 2**40:
            raise ValueError("a storage without a name or a size")
        dtype = _STORAGES[storage.name]
        if key not in self.storages:
            self.storages[key] = self.archive.storage(key, dtype, count)
        found = self.storages[key]
        if found.dtype != dtype:
            raise ValueError(f"storage {key} of two types")
        self.stack.append(found)

    @staticmethod
    def _list(target: Any) -> list[Any]:
        if not isinstance(target, list):
            raise TypeError("elements of an object that is no list")
        return target


def _named_call(machine: _Machine, _: Any) -> None:
    arguments = machine.stack.pop()
    machine.make(arguments, machine.stack.pop())


def _named_call_with_keywords(machine: _Machine, _: Any) -> None:
    keywords, arguments = machine.stack.pop(), machine.stack.pop()
    if keywords:
        raise ValueError("a call with keywords")
    machine.make(arguments, machine.stack.pop())


def _entry(machine: _Machine, _: Any) -> None:
    value = machine.stack.pop()
    machine.enter([machine.stack.pop(), value])


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
    "NEWFALSE": lambda: False,
    "NEWTRUE": lambda: True,
    "NONE": lambda: None,
}
_LITERALS = frozenset(
    {
        "BINBYTES",
        "BINBYTES8",
        "BINFLOAT",
        "BININT",
        "BININT1",
        "BININT2",
        "BINUNICODE",
        "BINUNICODE8",
        "LONG1",
        "LONG4",
        "SHORT_BINBYTES",
        "SHORT_BINUNICODE",
    }
)
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "ADDITEMS": lambda machine, _: machine.extend(machine.above_mark()),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.above_mark()),
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "BINPERSID": _Machine.persistent,
    "BINPUT": lambda machine, index: machine.memo.__setitem__(index, machine.stack[-1]),
    "BUILD": _Machine.build,
    "FROZENSET": lambda machine, _: machine.stack.append(machine.above_mark()),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINPUT": lambda machine, index: machine.memo.__setitem__(index, machine.stack[-1]),
    "MARK": _Machine.mark,
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    "NEWOBJ": _named_call,
    "NEWOBJ_EX": _named_call_with_keywords,
    "REDUCE": _named_call,
    "SETITEM": _entry,
    "SETITEMS": lambda machine, _: machine.enter(machine.above_mark()),
    "TUPLE": lambda machine, _: machine.tuple_of(None),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
}
