"""Parts of the labels that the prior of a potential explains."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.models.priors.prior import Prior

_BATCH = 50


def prior_labels(frames: Sequence[Frame], prior: Prior) -> list[Frame]:
    """Return frames with the energies (eV) and forces (eV/angstrom) of a prior as labels."""
    labeled: list[Frame] = []
    for begin in range(0, len(frames), _BATCH):
        some = frames[begin : begin + _BATCH]
        batch = collate(some, prior.reach, torch.float64)
        energies, forces = prior.energies_and_forces(batch.species, batch.edges, batch.edge_vectors())
        totals = energies.new_zeros(batch.n_structures)
        totals = totals.index_add(0, batch.structure_index[batch.edges[0]], energies)
        totals = totals.index_add(0, batch.structure_index, energies.new_full((len(batch.species),), prior.offset))
        parts = forces.split([len(frame.species) for frame in some])
        labeled += [
            replace(frame, energy=energy, forces=part.numpy())
            for frame, energy, part in zip(some, totals.tolist(), parts, strict=True)
        ]
    return labeled


def without_prior(frames: Sequence[Frame], prior: Prior | None) -> list[Frame]:
    """Return frames whose energies and forces are the labels minus those of a prior. Missing labels stay missing."""
    if prior is None:
        return list(frames)
    return [
        replace(frame, energy=frame.energy - of_prior.energy, forces=np.asarray(frame.forces - of_prior.forces))
        for frame, of_prior in zip(frames, prior_labels(frames, prior), strict=True)
    ]
