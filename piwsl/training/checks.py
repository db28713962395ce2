"""A configuration against the data: what the frames cannot give is said before training starts."""

from math import sqrt

from ase.data import chemical_symbols

from piwsl.errors import ConfigError
from piwsl.training.config import DisplacementConfig, LossConfig
from piwsl.training.data import LabelCounts, TrainingFrames
from piwsl.training.objective import is_active


def uses_displacements(loss: LossConfig) -> bool:
    """Whether a term uses displaced copies."""
    terms = (loss.pitc, loss.pisc, loss.pitc_back, loss.pisc_paths, loss.noisy_node, loss.taylor_labels)
    return any(is_active(coefficient) for coefficient in terms)


def check_labels(loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames) -> list[str]:
    """Compare the loss with the labels of the training frames; notes for the user.

    A default that asks for a label which no frame has is dropped with a note. What a user must have set is refused.

    Raises:
        ConfigError: a term has no label anywhere, or none is left that compares with labels.
    """
    labels = frames.labels["training"]
    where = f"no training frame of {frames.source} has"
    if not (labels.energies or labels.forces or labels.stresses):
        raise ConfigError(
            f"{frames.source}: no training frame has an energy, forces or stress: there is nothing to fit"
        )
    if is_active(loss.stress) and not labels.stresses:
        raise ConfigError(f"loss.stress: {where} a stress: set it to 0")
    if is_active(loss.taylor_labels) and not labels.both:
        raise ConfigError(f"loss.taylor_labels: {where} an energy and forces, which E_ref - d.F_ref needs: set it to 0")
    fits = {
        "energy": is_active(loss.energy) and bool(labels.energies),
        "forces": is_active(loss.forces) and bool(labels.forces),
        "stress": is_active(loss.stress) and bool(labels.stresses),
    }
    if is_active(loss.noisy_node) and not any(fits.values()):
        raise ConfigError(f"loss.noisy_node: {where} a label of a supervised term, which it repeats: set it to 0")
    if not any(fits.values()) and not is_active(loss.taylor_labels):
        raise ConfigError("no supervised loss is left: set loss.energy or loss.forces above zero where labels exist")
    needed = {"force_error": labels.forces, "energy_error": labels.energies}
    if uses_displacements(loss) and not needed.get(displacement.direction, 1):
        label = "forces" if displacement.direction == "force_error" else "an energy"
        raise ConfigError(
            f"displacement.direction: {displacement.direction}: {where} {label}: use normal, uniform or disagreement"
        )
    return _notes(loss, labels)


def fitting_loss(loss: LossConfig, frames: TrainingFrames) -> LossConfig:
    """The loss without the supervised terms whose label no training frame has.

    They would have no effect on a step, but the validation loss would choose the weights by labels that training must
    not know, such as forces that ``data.forces_fraction: 0`` hides.
    """
    labels = frames.labels["training"]
    counts = {"energy": labels.energies, "forces": labels.forces, "stress": labels.stresses}
    return loss.model_copy(update={name: 0.0 for name, count in counts.items() if not count})


def _notes(loss: LossConfig, labels: LabelCounts) -> list[str]:
    notes = []
    if is_active(loss.forces) and not labels.forces:
        notes.append("no training frame has forces: loss.forces is dropped, in the validation loss, too")
    if is_active(loss.energy) and not labels.energies:
        notes.append("no training frame has an energy: loss.energy is dropped, in the validation loss, too")
    if labels.energies and not labels.forces and uses_displacements(loss):
        notes.append(
            "energies only: PITC and PISC with too large coefficients flatten the surface; compare with loss.pitc=0"
        )
    if labels.stresses and not is_active(loss.stress):
        notes.append(f"{labels.stresses} training frames have a stress, which loss.stress = 0 does not use")
    return notes


def unseen_element_warnings(frames: TrainingFrames) -> list[str]:
    """Warnings of elements that the potential will be judged on without having been trained on them."""
    known = set(frames.train.elements)
    found = []
    for purpose, part in (("validation", frames.validation), ("test", frames.test)):
        new = [chemical_symbols[number] for number in part.elements if number not in known]
        if new:
            found.append(f"{purpose} frames hold {', '.join(new)}, which no training frame has: their errors mislead")
    return found


def check_displacement(loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames) -> None:
    """Compare the length of displacements with the distances between atoms.

    A length of all 3N components counts with its share of one atom in the smallest structure.

    Raises:
        ConfigError: it is beyond the cap.
    """
    if not uses_displacements(loss):
        return
    length, cap = displacement.length, displacement.cap
    if displacement.measure == "nearest_neighbor":
        if length > cap:
            raise ConfigError(f"displacement.length: {length:.3g} of the nearest-neighbor distance: the cap is {cap}")
        return
    if displacement.norm == "structure":
        length = length / sqrt(frames.report.atoms[0])
    closest = frames.report.smallest_distance
    if length > cap * closest:
        raise ConfigError(
            f"displacement.length: {length:.3g} A, but two atoms of {frames.source} are {closest:.3f} A apart and "
            f"displacement.cap = {cap} allows {cap * closest:.3f} A: choose a smaller length"
        )
