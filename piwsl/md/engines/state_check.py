"""Check of the arrays in a restart state, before an engine continues from them."""

import json
from xml.etree import ElementTree

import numpy as np

from piwsl.md.engines.base import EngineState
from piwsl.md.protocol import MDProtocol

_LINKS = 3  # beads of a Nose-Hoover chain, in every engine
_MOST = 10.0**9  # angstrom, angstrom/fs and ASE units; far beyond any trajectory, and finite in float32


def check_engine_state(state: EngineState, protocol: MDProtocol, step: int, atoms: int | None = None) -> None:
    """Check that an engine can continue from a state.

    Args:
        state: Arrays of the engine, from a file whose checksum is valid.
        protocol: Protocol of the run.
        step: Step of the state; negative in equilibration.
        atoms: Number of atoms of the structure; None if it is unknown.

    Raises:
        ValueError: An array is missing, has another shape or type, or contains values that are not finite.
    """
    atoms = _atoms(state) if atoms is None else atoms
    for name, shape in _numbers(protocol, step, atoms).items():
        array = _member(state, name)
        if array.dtype.kind != "f" or array.shape != shape:
            raise ValueError(f"{name} has type {array.dtype} and shape {array.shape}, expected real numbers {shape}")
        if not (np.abs(array) < _MOST).all():  # also false for NaN
            raise ValueError(f"{name} contains values that are not finite, or enormous")
    if protocol.engine == "openmm" and protocol.replicas is None:
        _check_openmm(state, atoms)
    if protocol.engine != "openmm":
        _check_generator(_member(state, "generator"))


def _numbers(protocol: MDProtocol, step: int, atoms: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the real arrays that the engine of a protocol stores."""
    vectors, ensemble = (atoms, 3), protocol.ensemble_at(step)
    if protocol.engine != "ase":
        shapes: dict[str, tuple[int, ...]] = {"positions": vectors, "velocities": vectors}
        if protocol.engine == "native":
            shapes["thermostat"] = (_LINKS if ensemble == "nvt-nose-hoover" else 0,)
        return shapes
    shapes = {"positions": vectors, "momenta": vectors, "cell": (3, 3)}
    if ensemble in ("nvt-nose-hoover", "npt"):
        shapes |= {"_thermostat._eta": (_LINKS,), "_thermostat._p_eta": (_LINKS,)}
    if ensemble == "npt":
        shapes |= {"_barostat._xi": (_LINKS,), "_barostat._p_xi": (_LINKS,), "eps": (), "p_eps": (), "cell0": (3, 3)}
    return shapes


def _member(state: EngineState, name: str) -> np.ndarray:
    if name not in state:
        raise ValueError(f"{name} is missing")
    return state[name]


def _atoms(state: EngineState) -> int:
    shape = _member(state, "positions").shape
    return shape[0] if shape else 0


def _check_openmm(state: EngineState, atoms: int) -> None:
    """Check the bytes of the checkpoint, and the State that is used if OpenMM does not accept the checkpoint."""
    for name in ("state_xml", "checkpoint"):
        array = _member(state, name)
        if array.dtype != np.uint8 or array.ndim != 1 or not array.size:
            raise ValueError(f"{name} is not a row of bytes")
    try:
        root = ElementTree.fromstring(state["state_xml"].tobytes())
    except ElementTree.ParseError as error:
        raise ValueError(f"state_xml is not XML ({error})") from None
    for group in ("Positions", "Velocities"):
        found = root.find(group)
        rows = [] if found is None else [[row.get(axis, "nan") for axis in "xyz"] for row in found]
        if root.tag != "State" or len(rows) != atoms or not (np.abs(np.array(rows, dtype=float)) < _MOST).all():
            raise ValueError(f"the {group} in state_xml are not those of {atoms} atoms")


def _check_generator(text: np.ndarray) -> None:
    """Check the state of a random number generator by setting it."""
    if text.shape or text.dtype.kind != "U":
        raise ValueError("generator is not a text")
    try:
        np.random.default_rng(0).bit_generator.state = json.loads(str(text))
    except Exception:  # json and numpy raise many types
        raise ValueError("generator is not the state of a random number generator") from None
