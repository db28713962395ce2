from pathlib import Path

import pytest

from piwsl.errors import ConfigError
from piwsl.md.protocol import MDProtocol


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": -5}, "steps = -5: it must be at least 1"),
        ({"temperature": 0}, "temperature = 0: temperatures must be above 0 K"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"timestep": -0.5}, "timestep = -0.5"),
        ({"engine": "lammps"}, "engine = 'lammps'"),
        ({"temprature": 300}, "unknown key temprature: did you mean temperature?"),
        ({"minimise": True}, "unknown key minimise: it is now minimize"),  # codespell:ignore
        ({"seed": 2**31}, "seed = 2147483648"),
        ({"replicas": True}, "replicas is true or false: give a number"),
        ({"pressure": False}, "pressure is true or false: give a number"),
    ],
)
def test_a_bad_option_is_one_line(options, words):
    with pytest.raises(ConfigError) as caught:
        MDProtocol.of(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_protocol_survives_its_file(tmp_path: Path):
    protocol = MDProtocol.of(engine="ase", temperature=321.5, stop=("temperature:900", "contact:off"))
    protocol.save(tmp_path / "config.yaml")
    assert MDProtocol.load(tmp_path / "config.yaml") == protocol


def test_a_broken_file_is_one_line(tmp_path: Path):
    path = tmp_path / "config.yaml"
    for text in ("- a list", "steps: [", "steps: many"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            MDProtocol.load(path)
    with pytest.raises(ConfigError):
        MDProtocol.load(tmp_path / "missing.yaml")


def test_differences_leave_out_the_number_of_steps():
    first, second = MDProtocol.of(steps=10), MDProtocol.of(steps=20, timestep=1.0)
    assert first.differences(second) == ["timestep: 0.5 -> 1.0"]


def test_stop_rules_are_checked_with_the_protocol():
    with pytest.raises(ConfigError, match="unknown stop rule 'bonds': did you mean 'bond'"):
        MDProtocol.of(stop=["bonds:0.3"])
    with pytest.raises(ConfigError, match="energy is not constant in nvt-langevin"):
        MDProtocol.of(stop=["energy-drift"])
    assert MDProtocol.of(stop=["energy-drift"], ensemble="nve").stop == ("energy-drift",)
