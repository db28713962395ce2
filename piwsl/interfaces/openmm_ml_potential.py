"""The potential that openmm-ml calls, created by `piwsl.interfaces.openmm_ml.PiwslPotentialFactory`."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from piwsl.errors import ConfigError, ElementError
from piwsl.interfaces.openmm.force import openmm_force
from piwsl.interfaces.openmm.particles import chosen_particles

# Arguments passed to openmm_force, which checks their values.
_OPTIONS = ("device", "kind", "precision", "strict", "charge", "unpaired_electrons", "multiplicity")


class PiwslPotential:
    """Potential for openmm-ml, defined by one model file.

    Args:
        name: Name given to ``MLPotential``.
        modelPath: Exported file, or a trained ``model.pt``.
        args: Default values for the arguments with the same names of createSystem and createMixedSystem: ``device``
            ("cpu", "cuda", ...), ``kind`` ("auto", "torch", "python"), ``precision`` ("single", "double"), ``strict``
            (refuse atoms outside the training data), and ``charge`` and ``unpaired_electrons`` of the atoms on which
            the potential acts, for networks that take them. ``multiplicity``, the name that other potentials of
            openmm-ml use, is the number of unpaired electrons plus one.

    Raises:
        ConfigError: The model path is missing, or an argument is unknown.
    """

    def __init__(self, name: str, modelPath: Any = None, **args: Any) -> None:
        if modelPath is None:
            raise ConfigError(
                f"MLPotential({name!r}) needs a model: give a file written by `piwsl export`, such as "
                f"MLPotential({name!r}, modelPath='model_openmm.pt')"
            )
        _check_names(args, f"MLPotential({name!r})", strict=True)
        self.model_path = modelPath
        self.defaults = args

    def addForces(self, topology: Any, system: Any, atoms: Iterable[int] | None, forceGroup: int, **args: Any) -> None:
        """Add the force of the potential to a System.

        Args:
            topology: The openmm.app.Topology of all particles.
            system: The openmm.System to which the force is added.
            atoms: Indices of the particles on which the potential acts, in the order of the model; None: all particles.
            forceGroup: Force group of the added forces.
            args: Arguments described in the class; other arguments belong to the embedding of a mixed system.

        Raises:
            ConfigError: An argument or a value is unknown, or ``atoms`` are not indices of particles.
            ElementError: A particle has no element, or an element on which the model was not trained.
            PiwslError: The model file or the force cannot be used.
        """
        _check_names(args, "createSystem" if atoms is None else "createMixedSystem", strict=atoms is None)
        options = {**self.defaults, **{name: args[name] for name in _OPTIONS if name in args}}
        if options.get("device") is not None:
            options["device"] = str(options["device"])  # also accept torch.device
        multiplicity = options.pop("multiplicity", None)
        if multiplicity is not None:
            if options.get("unpaired_electrons") is not None:
                raise ConfigError("multiplicity and unpaired_electrons: pass only one of them")
            options["unpaired_electrons"] = multiplicity - 1
        # For interpolation, openmm-ml adds forces to an empty System and copies them.
        if system.getNumParticles() == 0 and topology.getNumAtoms() > 0:
            options["kind"] = _kind_to_copy(options.get("kind"))
        chosen = None if atoms is None else chosen_particles(atoms, topology.getNumAtoms())
        _check_elements(topology, chosen)
        periodic = topology.getPeriodicBoxVectors() is not None or system.usesPeriodicBoundaryConditions()
        force = openmm_force(self.model_path, topology, periodic=periodic, atoms=chosen, **options)
        force.setForceGroup(forceGroup)
        system.addForce(force)
        if chosen is not None:
            _keep_molecules(topology, system, chosen, forceGroup)

    def getMLLongRange(self) -> bool:
        """Return False, because periodic images of the atoms do not interact beyond the cutoff."""
        return False


def _keep_molecules(topology: Any, system: Any, atoms: list[int], group: int) -> None:
    """Add bonds of zero strength in place of the force field bonds that openmm-ml has removed.

    OpenMM identifies molecules by bonds. Without bonds, the barostat and periodic wrapping would move each atom
    separately.
    """
    from openmm import HarmonicBondForce

    inside = set(atoms)
    force = HarmonicBondForce()
    force.setName("MoleculesOfPiwsl")
    force.setForceGroup(group)
    for first, second in topology.bonds():
        if first.index in inside and second.index in inside:
            force.addBond(first.index, second.index, 0.0, 0.0)
    if force.getNumBonds():
        system.addForce(force)


def _check_elements(topology: Any, atoms: list[int] | None) -> None:
    """Raise ElementError for particles that are not atoms, such as the fourth site of a water model."""
    particles = list(topology.atoms())
    for atom in particles if atoms is None else [particles[index] for index in atoms]:
        if atom.element is None:
            raise ElementError(
                f"particle {atom.index} ({atom.name} of residue {atom.residue.name}) has no element: exclude "
                "the particle from the atoms of the potential"
            )


def _kind_to_copy(kind: str | None) -> str:
    """Return a kind of force that can be copied; copying a TorchForce built for another OpenMM crashes the process."""
    if kind == "torch":
        raise ConfigError("kind='torch' cannot be combined with interpolate=True: use kind='python', or omit kind")
    return "python" if kind in (None, "auto") else kind


def _check_names(args: Mapping[str, Any], where: str, strict: bool) -> None:
    """Raise ConfigError for unknown arguments.

    In a mixed system, unknown arguments may belong to the embedding. Without ``strict``, an error is therefore raised
    only if the name resembles an argument of piwsl.
    """
    for name in args:
        if name not in _OPTIONS and (strict or get_close_matches(name, [*_OPTIONS, "modelPath"])):
            raise ConfigError(
                f"{where} has no argument {name!r} for piwsl: use {', '.join(_OPTIONS)} (give modelPath to MLPotential)"
            )
