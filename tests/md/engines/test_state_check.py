import json

import numpy as np
import pytest

from piwsl.md.engines.state_check import check_engine_state
from piwsl.md.protocol import MDProtocol

ATOMS = 2
VECTORS = np.ones((ATOMS, 3))
GENERATOR = np.array(json.dumps(np.random.default_rng(1).bit_generator.state))
ROWS = '<{0}><{1} x="0" y="1" z="2"/><{1} x="0" y="1" z="2"/></{0}>'
XML = f"<State>{ROWS.format('Positions', 'Position')}{ROWS.format('Velocities', 'Velocity')}</State>"
CHAIN = {"_thermostat._eta": np.zeros(3), "_thermostat._p_eta": np.zeros(3)}
ASE = {"positions": VECTORS, "momenta": VECTORS, "cell": np.eye(3), "generator": GENERATOR}


def row(text):
    return np.frombuffer(text.encode(), dtype=np.uint8)


STATES = {
    "ase nve": ({"engine": "ase", "ensemble": "nve"}, ASE),
    "ase chain": ({"engine": "ase", "ensemble": "nvt-nose-hoover"}, {**ASE, **CHAIN}),
    "ase npt": (
        {"engine": "ase", "ensemble": "npt"},
        {
            **ASE, **CHAIN, "_barostat._xi": np.zeros(3), "_barostat._p_xi": np.zeros(3), "eps": np.array(0.1),
            "p_eps": np.array(0.2), "cell0": np.eye(3),
        },
    ),
    "native chain": (
        {"replicas": 2, "ensemble": "nvt-nose-hoover"},
        {"positions": VECTORS, "velocities": VECTORS, "thermostat": np.zeros(3), "generator": GENERATOR},
    ),
    "native nve": (
        {"replicas": 2, "ensemble": "nve"},
        {"positions": VECTORS, "velocities": VECTORS, "thermostat": np.zeros(0), "generator": GENERATOR},
    ),
    "openmm": (
        {"engine": "openmm"},
        {"positions": VECTORS, "velocities": VECTORS, "state_xml": row(XML), "checkpoint": row("x")},
    ),
    "openmm replicas": (
        {"engine": "openmm", "replicas": 2},
        {"positions": VECTORS, "velocities": VECTORS},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_every_array_of_every_engine_is_checked(case):
    options, state = STATES[case]
    protocol = MDProtocol.of(**options)
    check_engine_state(state, protocol, 100, ATOMS)
    check_engine_state(state, protocol, 100)
    with pytest.raises(ValueError, match="positions"):
        check_engine_state(state, protocol, 100, ATOMS + 1)
    for name, array in state.items():
        with pytest.raises(ValueError, match=f"{name} is missing"):
            check_engine_state({key: state[key] for key in state if key != name}, protocol, 100, ATOMS)
        wrong = [np.zeros((*array.shape, 7)), np.array("nonsense")]
        if array.dtype.kind == "f" and array.size:
            wrong += [np.full(array.shape, np.nan), np.full(array.shape, 1e30), array.astype(int)]
        for other in wrong:
            with pytest.raises(ValueError, match=name):
                check_engine_state({**state, name: other}, protocol, 100, ATOMS)


@pytest.mark.parametrize("text", ["<State>", "<State/>", "<Other/>", XML.replace("1", "nan"), XML.replace("1", "x")])
def test_the_state_of_openmm_is_read(text):
    options, state = STATES["openmm"]
    with pytest.raises(ValueError, match=r"state_xml|could not convert"):
        check_engine_state({**state, "state_xml": row(text)}, MDProtocol.of(**options), 100, ATOMS)
