from collections.abc import Sequence
from os import PathLike

import numpy as np
import pytest

import piwsl
from piwsl.data.systems import SYSTEMS
from piwsl.errors import ConfigError, public, reason_of

MODEL = SYSTEMS["aspirin"].model


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (RuntimeError(f"\n first line\n{'x' * 300}"), "first line"),
        (RuntimeError(), "RuntimeError"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory"),
        (OSError("unable to open file"), "unable to open file"),
        (KeyError("checksum"), "no entry 'checksum'"),
        (KeyError("Unknown functional pbee"), "Unknown functional pbee"),
    ],
)
def test_an_exception_of_another_library_is_one_line(error, text):
    assert reason_of(error) == text


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: piwsl.read_frames(3), r"source is '3', of type int: pass Path \| str"),
        (lambda: piwsl.evaluate(None, []), r"model is 'None', of type NoneType: pass .*str \| PathLike\[str\]"),
        (lambda: piwsl.export_model([b"x"]), r"model is .*, of type list: pass str \| PathLike\[str\] \| Sequence"),
        (lambda: piwsl.PiwslCalculator(None), "model is 'None', of type NoneType: pass"),
        (lambda: piwsl.analyze(b"run"), "runs is .*, of type bytes: pass"),
        (lambda: piwsl.openmm_force("m.pt", 3), "'3' is neither a topology nor atomic numbers"),
        (lambda: piwsl.run_md(3, "model.pt"), "structure is '3', of type int: pass"),
        (lambda: piwsl.tune(3), "config is '3', of type int: pass"),
        (lambda: piwsl.PiwslCalculator(MODEL, charge=np.eye(2)), r"charge=array\(\[\[1., 0.\], \[0., 1.\]\]\)"),
        (lambda: piwsl.train_ensemble("aspirin", seeds=np.array([1, 1])), "seeds=1,1: the seeds must be distinct"),
        (lambda: piwsl.train_ensemble("aspirin", seeds=[0.5]), "seeds=0.5: the seeds must be distinct integers"),
        (lambda: piwsl.train_ensemble("aspirin", seeds=3), r"seeds is '3', of type int: pass"),
    ],
)
def test_an_argument_of_a_wrong_type_is_one_line(call, message):
    with pytest.raises(piwsl.PiwslError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_works_is_accepted_and_own_mistakes_stay_visible():
    @public
    def verb(path: str | PathLike[str], numbers: Sequence[int] = (), factor: float = 1.0) -> int:
        return len(numbers) + {}[path] if path == "mistake" else path + 1

    assert verb(2) == 3  # not refused, because it works
    for arguments in (("text",), ("text", np.arange(3)), ("text", (np.int64(1),), 2)):
        with pytest.raises(TypeError):
            verb(*arguments)
    with pytest.raises(ConfigError, match="factor is 'None', of type NoneType: pass float"):
        verb("text", factor=None)
    with pytest.raises(TypeError, match="missing 1 required"):
        verb()
