"""Loss terms that learn from a teacher: a trained potential whose predictions replace labels.

The predictions of the teacher carry no gradient. They are computed during training, at the structures and at the same
displaced copies as those of the model, so that no label is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from piwsl.data.batch import Batch
from piwsl.losses.consistency import ErrorFunction, SquaredError
from piwsl.losses.curvature import hessian_product
from piwsl.losses.evaluation import evaluate
from piwsl.losses.predictions import (
    FIRST,
    ORIGIN,
    PointPredictions,
    PredictionRequest,
    Work,
    predict,
    sum_per_structure,
)
from piwsl.models.potential import Potential

MOST_STORED = 20_000_000  # atoms whose forces are kept in memory (240 MB in float32)


@dataclass(frozen=True)
class TeacherTerm:
    """Base class of the terms that compare the model with a teacher.

    Attributes:
        everywhere: Whether the term acts on all structures, or only on structures without force labels. In both cases,
            the structures are those of the main level of theory.
    """

    everywhere: bool = False

    name: ClassVar[str]

    @property
    def request(self) -> PredictionRequest:
        """Predictions of the model that the term requires."""
        raise NotImplementedError

    @property
    def teacher_request(self) -> PredictionRequest:
        """Predictions of the teacher that the term requires."""
        return self.request

    def applies(self, batch: Batch) -> bool:
        """Return whether the term acts on any structure of the batch."""
        return bool(self._chosen(batch).any())

    def _chosen(self, batch: Batch) -> Tensor:
        """Return the mask (S,) of the structures on which the term acts."""
        of_main_level = torch.ones_like(batch.energy, dtype=torch.bool) if batch.level is None else batch.level == 0
        if self.everywhere:
            return of_main_level
        unknown = (~torch.isfinite(batch.forces).all(-1)).double()
        return of_main_level & (sum_per_structure(unknown, batch.structure_index, batch.n_structures) > 0)


@dataclass(frozen=True)
class TeacherForces(TeacherTerm):
    """Norm of the difference between the forces of model and teacher, averaged over atoms, eV/angstrom."""

    name: ClassVar[str] = "teacher_forces"

    @property
    def request(self) -> PredictionRequest:
        """Request for the forces at the structures."""
        return PredictionRequest(forces=frozenset({ORIGIN}))

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean_i |F_i - F_teacher,i| per structure (S,) and the mask (S,) of structures that are included."""
        assert points.teacher is not None
        return _mean_norm(points.forces[ORIGIN] - points.teacher.forces[ORIGIN], batch), self._chosen(batch)


@dataclass(frozen=True)
class TeacherPITC(TeacherTerm):
    """Taylor-expansion consistency along the teacher.

    The term compares E(C) - E(A) of the model with the teacher, where C is the displaced copy of the structure A. The
    weak label is the same difference of the energies of the teacher, or minus the work of its forces along the
    displacement (trapezoid rule). An offset between the energies of model and teacher has no effect.

    Attributes:
        target: ``energy`` or ``work``. With direct forces, the two differ.
        error: Error function of the mismatch in eV.
        per_atom: Whether to divide the mismatch by the number of atoms.
    """

    target: Literal["energy", "work"] = "energy"
    error: ErrorFunction = field(default_factory=SquaredError)
    per_atom: bool = False

    name: ClassVar[str] = "teacher_pitc"

    @property
    def request(self) -> PredictionRequest:
        """Request for the energies at both points."""
        return PredictionRequest(energies=frozenset({ORIGIN, FIRST}))

    @property
    def teacher_request(self) -> PredictionRequest:
        """Request for the energies, or the works, of the teacher at both points."""
        if self.target == "energy":
            return self.request
        return PredictionRequest(works=frozenset(Work(point, ORIGIN, FIRST) for point in (ORIGIN, FIRST)))

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss per structure (S,) and the mask (S,) of structures that are included."""
        teacher = points.teacher
        assert teacher is not None
        if self.target == "energy":
            expected = teacher.energies[FIRST] - teacher.energies[ORIGIN]
        else:
            expected = -0.5 * (teacher.work(Work(ORIGIN, ORIGIN, FIRST)) + teacher.work(Work(FIRST, ORIGIN, FIRST)))
        mismatch = points.energies[FIRST] - points.energies[ORIGIN] - expected
        return self.error(mismatch / points.n_atoms if self.per_atom else mismatch), self._chosen(batch)


@dataclass(frozen=True)
class TeacherCurvature(TeacherTerm):
    """Norm of the difference between Hessian-vector products of model and teacher, averaged over atoms, eV/angstrom^2.

    The direction is random, new in every step, and a unit vector for each atom.
    """

    name: ClassVar[str] = "teacher_curvature"

    @property
    def request(self) -> PredictionRequest:
        """Request for the product of the Hessian with the direction."""
        return PredictionRequest(curvature=True)

    def __call__(self, points: PointPredictions, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the differences per structure (S,) and the mask (S,) of structures that are included."""
        assert points.curvature is not None
        assert points.teacher is not None
        assert points.teacher.curvature is not None
        return _mean_norm(points.curvature - points.teacher.curvature, batch), self._chosen(batch)


def _mean_norm(differences: Tensor, batch: Batch) -> Tensor:
    norms = torch.linalg.vector_norm(differences, dim=-1)
    return sum_per_structure(norms, batch.structure_index, batch.n_structures) / batch.n_atoms


class _Stored(NamedTuple):
    """Prediction for a frame: its energy, eV, and its forces (n, 3), eV/angstrom, if they were requested."""

    energy: Tensor
    forces: Tensor | None


class Teacher:
    """One or several trained potentials with fixed weights, whose mean prediction is learned.

    Energies and forces of the structures themselves are kept in memory by the index of the frame, so that they are
    computed once per frame. Displaced copies and directions differ in every step, so that their results are not kept.

    Args:
        potentials: Potentials with frozen weights. Their float type is that of the batches.
        cutoff: Largest cutoff of the potentials, angstrom.
        student_cutoff: Cutoff of the model that is trained, angstrom.
    """

    def __init__(self, potentials: Sequence[Potential], cutoff: float, student_cutoff: float) -> None:
        self.potentials = list(potentials)
        self.cutoff = cutoff
        self.student_cutoff = student_cutoff
        self._stored: dict[int, _Stored] = {}
        self._atoms = 0

    @property
    def margin(self) -> float:
        """Distance by which the cutoff of the teacher exceeds the cutoff of the model, angstrom."""
        return max(0.0, self.cutoff - self.student_cutoff)

    def fresh(self) -> "Teacher":
        """Return the same teacher without stored predictions."""
        return Teacher(self.potentials, self.cutoff, self.student_cutoff)

    def student_batch(self, batch: Batch, margin: float) -> Batch:
        """Return the batch with the edges that the model requires, for displacements with this margin (angstrom)."""
        return batch.within(self.student_cutoff + margin) if self.margin else batch

    def __call__(
        self,
        batch: Batch,
        displacements: Sequence[Tensor],
        request: PredictionRequest,
        directions: Tensor | None,
        margin: float = 0.0,
    ) -> PointPredictions:
        """Return the requested predictions of the teacher without gradient.

        Args:
            batch: Structures, with edges that exceed the larger of both cutoffs by the margin.
            displacements: Displacements (N, 3) of each copy, angstrom.
            request: Predictions that the terms require.
            directions: Directions (N, 3) of the curvature; None if it is not required.
            margin: Largest decrease of the distance between two atoms by the displacements, angstrom.
        """
        batch = replace(batch, level=None)  # a teacher has a single level
        if self.cutoff < self.student_cutoff:
            batch = batch.within(self.cutoff + margin)
        self.potentials = [potential.to(batch.positions.device) for potential in self.potentials]
        at_origin = {work for work in request.works if work.point == ORIGIN}
        needs_forces = ORIGIN in request.forces or bool(at_origin)
        rest = PredictionRequest(
            energies=request.energies - {ORIGIN},
            forces=request.forces - {ORIGIN},
            works=request.works - at_origin,
        )
        with torch.autocast(batch.positions.device.type, enabled=False):
            with torch.no_grad():
                points = _mean([evaluate(potential, batch, displacements, rest) for potential in self.potentials])
            if needs_forces or ORIGIN in request.energies:
                energies, forces = self._of_structures(batch, needs_forces)
                points = replace(
                    points,
                    energies={**points.energies, ORIGIN: energies},
                    forces=points.forces if forces is None else {**points.forces, ORIGIN: forces},
                )
            if request.curvature:
                assert directions is not None
                products = [
                    hessian_product(potential, batch, directions, create_graph=False) for potential in self.potentials
                ]
                points = replace(points, curvature=torch.stack(products).mean(0).detach())
        return points

    def _of_structures(self, batch: Batch, with_forces: bool) -> tuple[Tensor, Tensor | None]:
        """Return the energies (S,) and the forces (N, 3) of the structures, from memory if all of them are known."""
        frames = batch.frame_index.tolist()
        known = [self._stored.get(frame) for frame in frames]
        found = [entry for entry in known if entry is not None and (entry.forces is not None or not with_forces)]
        if len(found) == len(frames):
            forces = [entry.forces for entry in found if entry.forces is not None]
            energies = torch.stack([entry.energy for entry in found]).to(batch.positions.device)
            return energies, torch.cat(forces).to(batch.positions) if with_forces else None
        if not with_forces:
            with torch.no_grad():
                each = [potential.energies(*batch.graph) for potential in self.potentials]
            energies = torch.stack(each).mean(0)
            self._store(frames, energies, [None] * len(frames))
            return energies, None
        predictions = [predict(potential, batch, create_graph=False) for potential in self.potentials]
        energies = torch.stack([prediction.energies.detach() for prediction in predictions]).mean(0)
        together = torch.stack([prediction.forces.detach() for prediction in predictions]).mean(0)
        self._store(frames, energies, list(together.split(batch.n_atoms.tolist())))
        return energies, together

    def _store(self, frames: Sequence[int], energies: Tensor, forces: Sequence[Tensor | None]) -> None:
        for frame, energy, part in zip(frames, energies.cpu(), forces, strict=True):
            atoms = 0 if part is None else len(part)
            if self._atoms + atoms <= MOST_STORED:
                self._stored[frame] = _Stored(energy, None if part is None else part.cpu())
                self._atoms += atoms


def _mean(members: Sequence[PointPredictions]) -> PointPredictions:
    """Return the mean of the energies, forces and works of several potentials."""
    first = members[0]
    if len(members) == 1:
        return first
    return replace(
        first,
        energies={point: torch.stack([one.energies[point] for one in members]).mean(0) for point in first.energies},
        forces={point: torch.stack([one.forces[point] for one in members]).mean(0) for point in first.forces},
        works={work: torch.stack([one.works[work] for one in members]).mean(0) for work in first.works},
    )
