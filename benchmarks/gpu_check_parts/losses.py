"""Losses on the device beside the CPU: values and gradients of each term, training steps, and a run with a resume."""

import copy

import numpy as np
import torch
from torch import Tensor

from gpu_check_parts.common import Settings, aspirin, oxide
from gpu_check_parts.report import Report
from piwsl.data.batch import Batch, collate
from piwsl.data.frames import Frame
from piwsl.losses import (
    PISC,
    PITC,
    Displacement,
    EnergyMAE,
    ForceL2MAE,
    FrameRandom,
    NoisyNode,
    Objective,
    PISCPaths,
    PITCBack,
    StressMAE,
    TaylorLabels,
    Term,
    TowardsDisagreement,
    TowardsEnergyError,
    TowardsForceError,
    WeightedTerm,
)
from piwsl.losses.curvature import hessian_product
from piwsl.losses.forward_mode import directional_derivative
from piwsl.models import ModelConfig, Potential, build_potential

ELEMENTS = {1: -13.6, 6: -1030.0, 8: -2042.0, 22: -1600.0}
CUTOFF = 4.5
TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-3}
TERMS: dict[str, Term] = {
    "energies": EnergyMAE(),
    "forces": ForceL2MAE(),
    "stress": StressMAE(),
    "PITC, k = 1/2": PITC(),
    "PITC, k = 0": PITC(0.0),
    "PISC, k = 1/2": PISC(),
    "PISC, k = 0": PISC(0.0),
    "PITC, back": PITCBack(),
    "PISC, paths": PISCPaths(),
    "noisy node": NoisyNode(),
    "Taylor labels": TaylorLabels(),
}
FEW = ("forces", "PITC, k = 1/2", "PISC, k = 1/2")
DISPLACEMENTS = {
    "towards force errors": Displacement(TowardsForceError()),
    "towards energy errors, not rigid": Displacement(TowardsEnergyError(), remove="rigid"),
    "towards disagreement": Displacement(TowardsDisagreement(), norm="structure"),
}


def labeled(small: bool) -> list[Frame]:
    """Return aspirin and a cell with random labels."""
    generator, frames = np.random.default_rng(0), []
    for atoms in (aspirin(), oxide(12 if small else 24)):
        size = (len(atoms), 3)
        stress = generator.normal(size=(3, 3)) if atoms.pbc.all() else None
        energy = sum(ELEMENTS[int(number)] for number in atoms.numbers) + 0.1
        symmetric = None if stress is None else stress + stress.T
        frames.append(Frame.from_atoms(atoms, energy, generator.normal(size=size), symmetric))
    return frames


def built(forces: str, dtype: torch.dtype) -> Potential:
    """Return a small PaiNN with random weights."""
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"forces": forces, "channels": 16, "layers": 2, "cutoff": CUTOFF})
    potential = build_potential(config, ELEMENTS)
    potential.network.to(dtype)
    return potential


def gradient(potential: Potential, batch: Batch, objective: Objective) -> tuple[float, Tensor]:
    """Return the loss and its gradient."""
    potential.zero_grad(set_to_none=True)
    loss, _ = objective(potential, batch, FrameRandom(0, 0))
    loss.backward()
    slopes = [weight.grad.flatten() for weight in potential.parameters() if weight.grad is not None]
    return float(loss.detach()), torch.cat(slopes).to("cpu", torch.float64)


def run(report: Report, settings: Settings) -> None:
    frames = labeled(settings.small)
    terms = {name: TERMS[name] for name in FEW} if settings.small else TERMS
    for forces in ("conservative", "direct") if not settings.small else ("conservative",):
        for dtype in TOLERANCES if not settings.small else (torch.float64,):
            kind = f"{forces}, {str(dtype).removeprefix('torch.')}"
            report.attempt(f"modes, {kind}", modes, report, settings, frames, forces, dtype)
            for name, term in terms.items():
                objective = Objective([WeightedTerm(term, 1.0)])
                title = f"{name}, {kind}"
                report.attempt(title, check, report, settings, title, frames, forces, dtype, objective)
        for name, displacement in list(DISPLACEMENTS.items())[: 1 if settings.small else None]:
            several = [WeightedTerm(term, 1.0) for term in (EnergyMAE(), PITC(), PISC())]
            objective, title = Objective(several, displacement), f"displacement {name}, {forces}"
            report.attempt(title, check, report, settings, title, frames, forces, torch.float64, objective)
    report.attempt("training steps", steps, report, settings, frames)
    if not settings.small:
        report.attempt("piwsl.train, resumed", resumed, report, settings)


def check(
    report: Report,
    settings: Settings,
    title: str,
    frames: list[Frame],
    forces: str,
    dtype: torch.dtype,
    objective: Objective,
) -> None:
    """Add the differences of a loss and its gradient."""
    batch = collate(frames, CUTOFF + objective.margin, dtype)
    potential = built(forces, dtype)
    expected, slopes = gradient(potential, batch, objective)
    found, there = gradient(copy.deepcopy(potential).to(settings.device), batch.to(settings.device), objective)
    size = max(float(slopes.abs().max()), 1e-12)
    report.check(f"{title}, loss", abs(found - expected) / max(abs(expected), 1e-6), TOLERANCES[dtype])
    report.check(f"{title}, gradient", float((there - slopes).abs().max()) / size, TOLERANCES[dtype])


def modes(report: Report, settings: Settings, frames: list[Frame], forces: str, dtype: torch.dtype) -> None:
    """Add the difference between the two modes of differentiation, each on the device."""
    potential = built(forces, dtype).to(settings.device)
    batch = collate(frames, CUTOFF, dtype).to(settings.device)
    torch.manual_seed(1)
    along = torch.randn(batch.positions.shape, dtype=dtype).to(settings.device)

    def energies(positions: Tensor) -> Tensor:
        return potential.energies(*batch.moved(positions).graph)

    _, forward = directional_derivative(energies, batch.positions, along)
    positions = batch.positions.detach().requires_grad_(True)
    backward = torch.autograd.grad(energies(positions).sum(), positions)[0]
    products = (along * backward).sum(-1).double()
    reverse = products.new_zeros(batch.n_structures).index_add(0, batch.structure_index, products)
    size = float(reverse.abs().max())
    title = f"{forces}, {str(dtype).removeprefix('torch.')}, forward and reverse mode"
    report.check(title, float((forward - reverse).abs().max()) / size, TOLERANCES[dtype])
    curvatures = [
        hessian_product(built(forces, dtype).to(device), batch.to(device), along.to(device)).detach().cpu()
        for device in ("cpu", settings.device)
    ]
    difference = float((curvatures[0] - curvatures[1]).abs().max()) / float(curvatures[0].abs().max())
    report.check(f"{title}, Hessian", difference, TOLERANCES[dtype])


def steps(report: Report, settings: Settings, frames: list[Frame]) -> None:
    """Add the difference of the weights after three steps of AdamW."""
    terms = [WeightedTerm(term, 1.0) for term in (EnergyMAE(), ForceL2MAE(), PITC(), PISC())]
    objective, weights = Objective(terms), []
    for device in ("cpu", settings.device):
        potential = built("conservative", torch.float64).to(device)
        batch = collate(frames, CUTOFF + objective.margin, torch.float64).to(device)
        optimizer = torch.optim.AdamW(potential.parameters(), 1e-3, amsgrad=True, fused=True)
        for step in range(3):
            loss, _ = objective(potential, batch, FrameRandom(0, step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights.append(torch.cat([weight.detach().cpu().flatten() for weight in potential.parameters()]))
    report.check("weights after 3 training steps", float((weights[0] - weights[1]).abs().max()), 1e-6)


def resumed(report: Report, settings: Settings) -> None:
    """Add the errors of a short run, and the difference between a run in two parts and a run in one."""
    from piwsl import load_model, train

    options = {
        "data.train": 100,
        "data.validation": 20,
        "data.test": 20,
        "model.channels": 16,
        "model.layers": 2,
        "optimizer.warmup": 5,
        "optimizer.validation_interval": 20,
        "loss.pitc": 1.0,
        "loss.pisc": 0.01,
        "loss.cadence": 2,
        "loss.warmup": 0,
        "optimizer.schedule": "constant",
    }
    weights: list[Tensor] = []
    for deterministic in (False, True):
        weights.clear()
        for parts in ((40,), (20, 40)):
            folder = settings.folder / f"train-{deterministic}-{len(parts)}"
            for number, count in enumerate(parts):
                changed = {**options, "optimizer.steps": count, "deterministic": deterministic}
                result = train(system="aspirin", output=folder, resume=number > 0, options=changed, progress=False)
            weights.append(torch.cat([value.flatten() for value in load_model(result.model).tensors.values()]))
            report.measure(
                f"train, {parts} steps", seconds=result.seconds, force_mae=float(result.errors.force_mae or 0.0)
            )
        difference = float((weights[0] - weights[1]).abs().max())
        title = f"train and resume{', deterministic' if deterministic else ''}, weights"
        report.check(title, difference, 0.0 if deterministic or not settings.gpu else 1e-3)
