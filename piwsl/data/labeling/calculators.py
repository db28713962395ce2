"""Create reference calculators (ASE calculators that label structures) by name."""

from collections.abc import Mapping
from importlib import import_module
from math import isnan
from pathlib import Path
from typing import Any

from ase.calculators.calculator import BaseCalculator

from piwsl.data.charges import ChargeSpin
from piwsl.data.labeling.pyscf import PYSCF, PySCFCalculator, check_options
from piwsl.errors import ConfigError, MissingDependencyError, PiwslError
from piwsl.runs.files import sha256

_XTB = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB"}
_MODEL = "model:"
# Imported by name, because this package does not depend on models.
_MODEL_CALCULATOR = "piwsl.interfaces.ase:PiwslCalculator"
_MODEL_FILES = "piwsl.export.loading:model_files"
_MODEL_ORIGIN = "piwsl.export.licenses:labels_from"
KNOWN = f"{', '.join(_XTB)}, {PYSCF}FUNCTIONAL/BASIS, {_MODEL}FILE[,FILE...], or module:Class of an ASE calculator"


def reference_calculator(method: str, options: Mapping[str, Any] | None = None) -> BaseCalculator:
    """Create a new calculator for a reference method.

    Args:
        method: Name of the method: ``gfn2-xtb``; ``gfn1-xtb``; PySCF in the form ``pyscf:pbe/def2-svp``, with a
            functional or one of hf, mp2, ccsd, ccsd(t); a trained or exported model in the form ``model:FILE``; an
            ensemble of trained models in the form ``model:FILE,FILE,...`` or ``model:DIRECTORY``; or any ASE calculator
            in the form ``ase.calculators.emt:EMT``.
        options: Calculator options by name.

    Raises:
        ConfigError: The method or an option is unknown.
        MissingDependencyError: The library of the method is not installed.
        ModelFileError: The model file cannot be used.
    """
    options = dict(options or {})
    if method in _XTB:
        return _xtb(method, options)
    if method.startswith(PYSCF):
        return PySCFCalculator.from_name(method.removeprefix(PYSCF), options)
    if method.startswith(_MODEL):
        return _imported(_MODEL_CALCULATOR, {**options, "model": _models(method)})
    if ":" in method:
        return _imported(method, options)
    raise ConfigError(f"unknown method {method!r}: use one of {KNOWN}")


def model_hash(method: str) -> dict[str, str]:
    """Return the SHA-256 of each model file of a method, by the key of a plan; empty for methods without a file."""
    if not method.startswith(_MODEL):
        return {}
    return {"model_sha256": ",".join(sha256(path) for path in _files(method) if path.is_file())}


def labels_from(method: str) -> str:
    """Return the foundation models from which the models of a method were made, with licenses; empty without one."""
    return str(_named(_MODEL_ORIGIN)(_files(method))) if method.startswith(_MODEL) else ""


def _files(method: str) -> list[Path]:
    files: list[Path] = _named(_MODEL_FILES)(_models(method))
    return files


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _models(method: str) -> str | list[str]:
    """Return the file or directory of a method, or its files if it names several."""
    text = method.removeprefix(_MODEL)
    return text if "," not in text or Path(text).exists() else [name for name in text.split(",") if name]


def options_for(method: str, options: Mapping[str, Any], stated: ChargeSpin) -> dict[str, Any]:
    """Return the calculator options for a structure, with the charge and spin that it states.

    The built-in methods receive them as options. Models and calculators of other packages find them in the ``info`` of
    the structure.

    Args:
        method: Name of the method, as in `reference_calculator`.
        options: Calculator options by name.
        stated: Charge and spin of the structure.

    Raises:
        ConfigError: An option contradicts the structure.
    """
    named: dict[str, float] = {}
    if method in _XTB:
        named = {"charge": stated.charge, "multiplicity": stated.unpaired_electrons + 1.0}
    elif method.startswith(PYSCF):
        named = {"charge": stated.charge, "spin": stated.unpaired_electrons}
    complete = dict(options)
    for name, value in named.items():
        if isnan(value):
            continue
        if complete.get(name) is not None and complete[name] != value:
            raise ConfigError(
                f"the structure states {stated}, but the calculator option {name} is {complete[name]}: "
                "remove one of them"
            )
        complete[name] = round(value)
    return complete


def needs_fresh_calculator(method: str) -> bool:
    """Return whether a method needs a new calculator for each structure.

    The built-in methods start from the wavefunction of the previous structure, so that labels would depend on the
    order. Calculators from other packages may be slow to create and are reused.
    """
    return method in _XTB or method.startswith(PYSCF)


def _xtb(method: str, options: dict[str, Any]) -> BaseCalculator:
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise MissingDependencyError("tblite", f"labeling with {_XTB[method]}", "label") from error
    check_options(method, options, set(TBLite.default_parameters) - {"method"})
    return TBLite(**{"accuracy": 0.1, "verbosity": 0, **options, "method": _XTB[method]})


def _imported(method: str, options: dict[str, Any]) -> BaseCalculator:
    module, _, name = method.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"method {method!r}: {error}: name an ASE calculator as module:Class") from None
    try:
        calculator = factory(**options)
    except PiwslError:
        raise
    except Exception as error:  # an imported class may raise any exception
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"cannot create the calculator for method {method!r} ({reason})") from None
    if not isinstance(calculator, BaseCalculator):
        raise ConfigError(
            f"method {method!r} creates a {type(calculator).__name__}: name an ASE calculator as module:Class"
        )
    return calculator
