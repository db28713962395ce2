"""Random changes of files: of any bytes, of text, of archives, of JSON."""

import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any, TypeAlias

Mutation: TypeAlias = Callable[[bytes, random.Random], bytes]

_SIZES = (0, 1, -1, 127, 255, 65_535, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**62, 2**63 - 1)
_NUMBERS = ("nan", "inf", "-inf", "1e300", "-1", "0", "1.5", "1e-320", "999999999999", "9" * 5000, "0x10", "1+2j", "x")
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**30, float("nan"), "", "text", "9" * 5000, [], [[]], [1, [2, 3]], {}, {"a": {"b": []}},
)  # fmt: skip
_TOKEN = re.compile(rb"[^\s\",:=\[\]{}()]+")


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip one to eight bits."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, rng: random.Random) -> bytes:
    """Overwrite a short run with noise, zeros or ones."""
    place, length = rng.randrange(len(data)), rng.randint(1, 64)
    noise = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length))
    return data[:place] + noise + data[place + length :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return data[: rng.randrange(len(data))]


def drop_block(data: bytes, rng: random.Random) -> bytes:
    """Remove a block in the middle."""
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def repeat_block(data: bytes, rng: random.Random) -> bytes:
    """Insert a copy of a block."""
    start, end = _block(data, rng)
    return data[:end] + data[start:end] + data[end:]


def swap_blocks(data: bytes, rng: random.Random) -> bytes:
    """Exchange two blocks of equal size."""
    size = rng.choice((8, 64, 512, 4096))
    if len(data) < 2 * size:
        size = max(1, len(data) // 2)
    blocks = len(data) // size
    first, second = sorted(rng.randrange(blocks) * size for _ in range(2))
    changed = bytearray(data)
    changed[first : first + size], changed[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )
    return bytes(changed)


def set_size(data: bytes, rng: random.Random) -> bytes:
    """Overwrite four or eight bytes with a number that a size field could hold."""
    width = rng.choice((2, 4, 8))
    order = rng.choice(("little", "big"))
    place = rng.randrange(max(1, len(data) - width))
    place -= place % rng.choice((1, width))
    value = (rng.choice(_SIZES) % (1 << (8 * width))).to_bytes(width, order)  # type: ignore[arg-type]
    return data[:place] + value + data[place + width :]


def change_token(data: bytes, rng: random.Random) -> bytes:
    """Replace a word or number of a text."""
    tokens = list(_TOKEN.finditer(data))
    if not tokens:
        return flip_bits(data, rng)
    token = rng.choice(tokens)
    other = rng.choice((rng.choice(_NUMBERS).encode(), rng.choice(tokens)[0], b""))
    return data[: token.start()] + other + data[token.end() :]


def change_lines(data: bytes, rng: random.Random) -> bytes:
    """Drop, repeat, exchange or empty lines; change their ends; add a mark of the byte order."""
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(7)
    if kind == 0:
        del lines[first]
    elif kind == 1:
        lines.insert(second, lines[first])
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == 3:
        lines.insert(first, rng.choice((b"", b"   ", b"# comment", b"\x00", b"\xff\xfe", b"9" * 10_000)))
    elif kind == 4:
        return b"\r\n".join(lines)
    elif kind == 5:
        return b"\xef\xbb\xbf" + data
    else:
        return b"\r".join(lines)
    return b"\n".join(lines)


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Replace, remove or add a value somewhere in a JSON document."""
    document = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            collect(value)

    collect(document)
    if not places:
        return json.dumps(rng.choice(_VALUES)).encode()
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node["added"] = rng.choice(_VALUES)
    elif kind == 2:
        other, place = rng.choice(places)
        node[key] = json.loads(json.dumps(other[place]))
    else:
        node[key] = rng.choice(_VALUES)
    return json.dumps(document).encode()


def change_member(data: bytes, rng: random.Random, mutations: "tuple[Mutation, ...] | None" = None) -> bytes:
    """Change one member of a zip archive and write a valid archive around it; or drop, repeat or rename members."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    index = rng.randrange(len(members))
    name, content, method = members[index]
    kind = rng.randrange(8)
    if kind == 0:
        del members[index]
    elif kind == 1:
        members[index] = (rng.choice(("../escape", "/absolute", "other", name + "x", "a\nb")), content, method)
    elif kind == 2:
        other = rng.randrange(len(members))
        members[index] = (name, members[other][1], method)
    else:
        inner = rng.choice(mutations or BYTES)
        members[index] = (name, inner(content or b"\0", rng), method)
    written = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(written, "w") as archive:
        warnings.simplefilter("ignore")  # two members of one name are on purpose
        for name, content, method in members:
            archive.writestr(name, content, compress_type=method)
    return written.getvalue()


def _block(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 8, 64, 512, 4096)))


BYTES: tuple[Mutation, ...] = (flip_bits, set_bytes, truncate, drop_block, repeat_block, swap_blocks, set_size)
TEXT: tuple[Mutation, ...] = (*BYTES, change_token, change_token, change_token, change_lines, change_lines)
JSON: tuple[Mutation, ...] = (*TEXT, change_json, change_json, change_json)
ZIP: tuple[Mutation, ...] = (*BYTES, change_member, change_member, change_member, change_member)
