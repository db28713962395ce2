"""Checks of a training configuration against the frames: labels, elements, charges and displacements."""

from math import sqrt

import numpy as np
from ase.data import chemical_symbols

from piwsl.data.frames import FrameSet
from piwsl.errors import ConfigError
from piwsl.models import ModelConfig
from piwsl.training.config import GAUSS_NEWTON, DisplacementConfig, LossConfig, TrainingConfig
from piwsl.training.frames import LabelCounts, TrainingFrames
from piwsl.training.objective import is_active

_OF_TERMS_WITHOUT_LABELS = ("mixing", "error", "huber_delta", "detach", "per_atom", "cadence", "warmup")


def check_against_data(config: TrainingConfig, frames: TrainingFrames) -> list[str]:
    """Check a configuration against the frames and return notes for the user.

    Raises:
        ConfigError: No frame has the label of a loss term, or the displacements are too long for these structures.
    """
    if config.start.training_method == GAUSS_NEWTON:  # its own checks follow when the start is known
        return []
    notes = check_labels(config.loss, config.displacement, frames, config.start.replay is not None)
    check_displacement(config.loss, config.displacement, frames)
    return notes


def uses_displacements(loss: LossConfig) -> bool:
    """Return whether an active loss term uses displaced copies."""
    terms = (loss.pitc, loss.pisc, loss.pitc_back, loss.pisc_paths, loss.noisy_node, loss.taylor_labels)
    return any(is_active(coefficient) for coefficient in (*terms, loss.teacher_pitc))


def check_labels(
    loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames, replay: bool = False
) -> list[str]:
    """Check the loss terms against the labels of the training frames and return notes for the user.

    If no frame has the label of a term that is active by default, a note reports that the term is dropped. A term that
    only the user can have activated raises an error instead.

    Raises:
        ConfigError: No training frame has the label of a term, or no supervised term is left.
    """
    labels, everywhere = frames.labels["training"], frames.all_labels
    where = f"no training frame of {frames.source} has"
    if not (labels.energies or labels.forces or labels.stresses):
        raise ConfigError(f"{frames.source}: no training frame has an energy, forces or stress: use data with labels")
    if is_active(loss.stress) and not everywhere.stresses:
        raise ConfigError(f"loss.stress: {where} a stress: set it to 0")
    if is_active(loss.taylor_labels) and not everywhere.both:
        raise ConfigError(f"loss.taylor_labels: {where} both energy and forces for E_ref - d.F_ref: set it to 0")
    fits = {
        "energy": is_active(loss.energy) and bool(labels.energies),
        "forces": is_active(loss.forces) and bool(labels.forces),
        "stress": is_active(loss.stress) and bool(labels.stresses),
    }
    if is_active(loss.noisy_node) and not any(fits.values()):
        raise ConfigError(f"loss.noisy_node: {where} a label of an active supervised term: set it to 0")
    if not any(fits.values()) and not is_active(loss.taylor_labels):
        raise ConfigError("no supervised loss is left: set loss.energy or loss.forces above zero where labels exist")
    needed = {"force_error": everywhere.forces, "energy_error": everywhere.energies}
    if uses_displacements(loss) and not needed.get(displacement.direction, 1):
        label = "forces" if displacement.direction == "force_error" else "an energy"
        raise ConfigError(
            f"displacement.direction: {displacement.direction}: {where} {label}: use normal, uniform or disagreement"
        )
    return _notes(loss, displacement, labels, everywhere, replay)


def fitting_loss(loss: LossConfig, labels: LabelCounts) -> LossConfig:
    """Return the loss configuration without the supervised terms whose label is missing in all training frames.

    Such a term has no effect on a training step. In the validation loss, however, it would select the weights by labels
    that training must not use, such as forces hidden by ``data.forces_fraction: 0``.

    Args:
        loss: Section `loss`.
        labels: Label counts of the training frames.
    """
    counts = {"energy": labels.energies, "forces": labels.forces, "stress": labels.stresses}
    return loss.model_copy(update={name: 0.0 for name, count in counts.items() if not count})


def without_effect(loss: LossConfig, displacement: DisplacementConfig) -> list[str]:
    """Return the keys of terms without labels whose values are not the defaults, if no such term is active."""
    if uses_displacements(loss) or is_active(loss.teacher_curvature):
        return []
    sections = {
        "loss": (loss, _OF_TERMS_WITHOUT_LABELS),
        "displacement": (displacement, type(displacement).model_fields),
    }
    return [
        f"{section}.{key}"
        for section, (values, keys) in sections.items()
        for key in keys
        if getattr(values, key) != type(values).model_fields[key].default
    ]


def _notes(
    loss: LossConfig, displacement: DisplacementConfig, labels: LabelCounts, everywhere: LabelCounts, replay: bool
) -> list[str]:
    notes = []
    frame = "frame" if labels == everywhere else "frame of the main level"

    def dropped(elsewhere: int) -> str:
        if elsewhere:
            return "acts on further levels and is dropped from"
        if replay:
            return "holds the forces of replay frames to those of the start model and is dropped from"
        return "is dropped, also from"

    if is_active(loss.forces) and not labels.forces:
        use = dropped(everywhere.forces)
        notes.append(f"no training {frame} has forces: loss.forces {use} the validation loss")
    if is_active(loss.energy) and not labels.energies:
        use = dropped(everywhere.energies)
        notes.append(f"no training {frame} has an energy: loss.energy {use} the validation loss")
    if everywhere.energies and not everywhere.forces and uses_displacements(loss):
        notes.append(
            "the training frames have energies only: if their coefficients are too large, PITC and PISC flatten the "
            "potential energy surface; compare with a run with loss.pitc=0 and loss.pisc=0"
        )
    idle = without_effect(loss, displacement)
    if idle:
        notes.append(
            f"{', '.join(idle)}: without effect, because no term without labels is active: set loss.pitc, or omit "
            f"{'it' if len(idle) == 1 else 'them'}"
        )
    if everywhere.stresses and not is_active(loss.stress):
        notes.append(f"{everywhere.stresses} training frames have a stress, which is not used because loss.stress is 0")
    return notes


def unseen_element_warnings(frames: TrainingFrames) -> list[str]:
    """Return warnings about elements that occur only in validation or test frames."""
    known = set(frames.main.elements)
    warnings = []
    for purpose, part in (("validation", frames.validation), ("test", frames.test)):
        new = [chemical_symbols[number] for number in part.elements if number not in known]
        if new:
            warnings.append(
                f"{purpose} frames contain {', '.join(new)}, but no training frame does: the {purpose} errors are "
                "not meaningful"
            )
    return warnings


def ignored_charge_warnings(model: ModelConfig, train: FrameSet) -> list[str]:
    """Return a warning if the training frames have a charge or a spin that the network ignores."""
    if model.takes_charge:
        return []
    states = np.nan_to_num(train.census.charge_spin).astype(np.int64)
    ignored = int(states.any(1).sum())
    if not ignored:
        return []
    charges = ", ".join(f"{charge:+d}" for charge in np.unique(states[:, 0]) if charge)
    spins = ", ".join(str(unpaired) for unpaired in np.unique(states[:, 1]) if unpaired)
    text = " and ".join(
        [*([f"a charge ({charges})"] if charges else []), *([f"unpaired electrons ({spins})"] if spins else [])]
    )
    return [
        f"{ignored} of {len(train)} training frames have {text}, which network {model.network} ignores: use "
        "network so3lr, or painn with model.charge_embedding: true"
    ]


def check_displacement(loss: LossConfig, displacement: DisplacementConfig, frames: TrainingFrames) -> None:
    """Raise an error if the displacements are too long for the distances between atoms.

    With ``norm: structure``, the length is divided by the square root of the smallest number of atoms, which gives the
    root mean square displacement of one atom.

    Raises:
        ConfigError: The length exceeds ``displacement.cap`` times the nearest-neighbor distance.
    """
    if not uses_displacements(loss):
        return
    length, cap = displacement.length, displacement.cap
    if displacement.measure == "nearest_neighbor":
        if length > cap:
            raise ConfigError(
                f"displacement.length: {length:.3g} exceeds displacement.cap = {cap}: choose a smaller length"
            )
        return
    sources = [(frames.source, frames.report), *((level.source, level.report) for level in frames.levels)]
    if displacement.norm == "structure":
        length = length / sqrt(min(report.atoms[0] for _, report in sources))
    source, report = min(sources, key=lambda entry: entry[1].smallest_distance)
    closest = report.smallest_distance
    if length > cap * closest:
        raise ConfigError(
            f"displacement.length: {length:.3g} A, but two atoms of {source} are {closest:.3f} A apart and "
            f"displacement.cap = {cap} allows {cap * closest:.3f} A: choose a smaller length"
        )
