"""The 3-D view of a page: 3Dmol.js, the frames, and what the page may run."""

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup

from piwsl.md.report.scene import Scene
from piwsl.units import PICOSECOND

LIBRARY_NAME = "3Dmol.js 2.5.5"
LIBRARY_FILE = "3Dmol-2.5.5.min.js"
LICENSE_FILE = "3Dmol-LICENSE.txt"
OWN_FILE = "viewer.js"


@cache
def _text(name: str) -> str:
    return (files("piwsl.md.report") / "viewer" / name).read_text(encoding="utf-8")


@cache
def library() -> str:
    """3Dmol.js, deflated, base64."""
    return base64.b64encode(zlib.compress(_text(LIBRARY_FILE).encode(), 9)).decode("ascii")


def license_text() -> str:
    """Of 3Dmol.js and its parts: it goes wherever they go."""
    return _text(LICENSE_FILE)


def script() -> Markup:
    """What runs the view; its own file, with nothing that ends a script element."""
    return Markup(_text(OWN_FILE))


def allowed_scripts() -> str:
    """For the content security policy of the page: the view and 3Dmol.js by their hashes, nothing else."""
    hashes = (hashlib.sha256(_text(name).encode()).digest() for name in (OWN_FILE, LIBRARY_FILE))
    return " ".join(f"'sha256-{base64.b64encode(one).decode('ascii')}'" for one in hashes)


def scenes_json(scenes: Sequence[Scene]) -> Markup:
    """The frames for the script, safe inside a script element."""
    text = json.dumps([_plain(scene) for scene in scenes], separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _plain(scene: Scene) -> dict[str, Any]:
    times = scene.times / PICOSECOND
    interval = float(np.diff(times).min()) if len(times) > 1 else float(times[0])
    return {
        "name": scene.name,
        "symbols": scene.symbols,
        "bonds": scene.bonds.tolist(),
        "times": [round(float(time), 6) for time in times],
        # The fewest that tell the frames apart.
        "digits": next((n for n in range(6) if abs(round(interval, n) - interval) < 1e-3 * interval), 6),
        "cell": [[[round(float(x), 3) for x in end] for end in edge] for edge in scene.edges],
        "end": None if scene.end is None else round(scene.end / PICOSECOND, 6),
        "positions": scene.encoded(),
    }
