"""Dry run: report the plan and the estimated duration of a run without writing anything."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ase import Atoms

from piwsl.data.systems import Structure
from piwsl.md.inputs import md_inputs
from piwsl.md.job import Job, RunIdentity
from piwsl.md.progress import nanoseconds_per_day
from piwsl.md.protocol import MDProtocol
from piwsl.md.run_model import domain_warnings, prepare_model
from piwsl.md.simulation import Simulation
from piwsl.md.structure import advice, prepared
from piwsl.runs.process_settings import process_settings
from piwsl.runs.progress import rough_duration
from piwsl.runs.scratch import scratch_directory
from piwsl.structures.files import check_structure

_TRIAL = 2.0  # s, duration of the timed trial
_WARM_UP = 5  # untimed steps, in which compiled code is optimized
# Approximate bytes per atom and frame; XTC is compressed, and extxyz is text.
_FRAME_BYTES = {"dcd": 12, "xtc": 4, "hdf5": 12, "extxyz": 60}


@dataclass(frozen=True)
class Plan:
    """Plan of a molecular dynamics run.

    Attributes:
        lines: Description of the run, one fact per line.
        warnings: Warnings about the protocol.
        seconds_per_step: Measured duration of a step, s.
        seconds: Estimated duration of the run, s.
    """

    lines: list[str]
    warnings: list[str]
    seconds_per_step: float
    seconds: float


def plan_run(structure: Atoms, model: Path, protocol: MDProtocol, strict: bool = False) -> Plan:
    """Prepare a run, time a few steps, and return the plan of the run.

    Raises:
        PiwslError: The run would fail with the same error.
    """
    with process_settings(huge_pages=True):
        return _plan(structure, model, protocol, strict)


def _plan(structure: Atoms, model: Path, protocol: MDProtocol, strict: bool) -> Plan:
    check_structure(structure)
    structure = prepared(structure, protocol)
    with scratch_directory("md") as scratch:
        exported = prepare_model(model, structure, protocol, scratch)
        outside = domain_warnings(exported, structure, model, strict)
        job = Job(structure, model, exported, RunIdentity(protocol, "", ""), scratch)
        simulation = Simulation(job, job.replicas)
        engine = simulation.engine
        engine.advance(_WARM_UP)
        steps, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < _TRIAL:
            engine.advance(5)
            steps += 5
    step = spent / steps
    total = protocol.equilibration + protocol.steps
    count = len(job.replicas)
    frames = count * (protocol.steps // protocol.trajectory_interval)
    size = frames * len(structure) * _FRAME_BYTES[protocol.trajectory_format] / 2**20
    rows = count * (protocol.steps // protocol.report_interval)
    what = "periodic structure" if structure.pbc.any() else "molecule"
    speed = nanoseconds_per_day(count / step, protocol.timestep)
    lines = [
        f"structure   {structure.get_chemical_formula()}, {len(structure)} atoms, {what}",
        f"model       {model}",
        f"engine      {engine.name}, force {engine.force} ({engine.force_reason}), platform {engine.platform}",
        f"protocol    {protocol.summary()}",
        f"trajectory  {frames} frames, about {size:.0f} MB; {rows} rows of thermo.csv",
        f"speed       {1 / step:.0f} steps/s, {speed:.2f} ns/day" + (" in total" if count > 1 else ""),
        f"time        about {rough_duration(step * total)}",
    ]
    warnings = [*advice(structure, protocol), *outside, *([simulation.warning] if simulation.warning else [])]
    return Plan(lines, warnings, step, step * total)


def plan_md(
    structure: Structure | None = None,
    model: str | PathLike[str] | None = None,
    *,
    system: str | None = None,
    config: Mapping[str, Any] | str | PathLike[str] | None = None,
    protocol: MDProtocol | str | None = None,
    output: str | PathLike[str] | None = None,
    restart: bool = False,
    strict: bool = False,
    **options: Any,
) -> Plan:
    """Return the plan of the run that `piwsl.run_md` would start with the same arguments; nothing is written.

    Raises:
        PiwslError: The run would fail with the same error.
    """
    inputs = md_inputs(
        structure,
        model,
        system=system,
        config=config,
        protocol=protocol,
        output=output,
        restart=restart,
        options=options,
    )
    plan = plan_run(inputs.structure, inputs.model, inputs.protocol, strict)
    return replace(plan, lines=[*plan.lines, f"output      {inputs.output}"])
