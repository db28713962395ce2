"""Output files of one replica: trajectory, ``thermo.csv``, restart states and summary."""

import logging
from pathlib import Path

import numpy as np
from ase import Atoms

from piwsl.md import run_directory as files
from piwsl.md.engines.base import EngineState, Snapshot, kinetic_energy, temperature
from piwsl.md.job import RunIdentity
from piwsl.md.restart import RestartState, write_state
from piwsl.md.stop.rule import Violation
from piwsl.md.stop.rules import StopRules
from piwsl.runs.summary import MDSummary, Result, SpeedRecord, ViolationRecord, now
from piwsl.trajectories.files import create_trajectory
from piwsl.trajectories.frame_writer import OutputFrame
from piwsl.trajectories.thermo import Energies, ThermoWriter
from piwsl.typing import FloatArray
from piwsl.units import PICOSECOND

LOGGER = logging.getLogger(__name__)


class Recorder:
    """Recorder that checks the stop rules and writes the files of one replica.

    Files are written in the order of events, so that a restart state never precedes its frames and rows on disk.

    Args:
        directory: Directory of the replica.
        structure: Start structure.
        identity: Protocol, model and structure of the run.
        rules: Stop rules of the replica.
        summary: Summary of the replica, which the recorder keeps up to date.
        degrees_of_freedom: Number of kinetic degrees of freedom.
        first: Step from which the run continues; later frames and rows in existing files are removed.
    """

    def __init__(
        self,
        directory: Path,
        structure: Atoms,
        identity: RunIdentity,
        rules: StopRules,
        summary: MDSummary,
        degrees_of_freedom: int,
        first: int,
    ) -> None:
        self.directory, self.rules, self.summary = directory, rules, summary
        self.kept: RestartState | None = None
        self.violation: Violation | None = None
        self._structure, self._identity, self._protocol = structure, identity, identity.protocol
        self._freedom = degrees_of_freedom
        self._masses = np.asarray(structure.get_masses(), dtype=np.float64)
        self._earlier_seconds = summary.wall_seconds
        self._name = f"trajectory.{self._protocol.trajectory_format}"
        self._open(first)

    def check(self, snapshot: Snapshot, energies: Energies | None, step: int) -> Violation | None:
        """Return the first violation, or None; rules that need energies are skipped if ``energies`` is None."""
        return self.rules.check(snapshot, energies, step)

    def frame(self, snapshot: Snapshot, forces: FloatArray | None, step: int) -> None:
        """Add a frame to the trajectory."""
        velocities = snapshot.velocities if "velocities" in self._protocol.write else None
        time = step * self._protocol.timestep
        self._trajectory.write(OutputFrame(step, time, snapshot.positions, snapshot.cell, velocities, forces))

    def report(self, snapshot: Snapshot, energies: Energies, step: int) -> None:
        """Add a row to thermo.csv."""
        self._thermo.write(step, energies, temperature(energies.kinetic, self._freedom), snapshot.cell)

    def keep(self, state: EngineState, step: int) -> None:
        """Write a restart state after flushing all output up to its step."""
        self.flush()
        started, seconds = self.summary.started, self.summary.wall_seconds
        self.kept = RestartState(step, self._identity, state, self.rules.state(), started, seconds)
        write_state(self.directory, self.kept)
        self.summary.write(self.directory)

    def note_speed(self, step: int, steps_per_second: float, ns_per_day: float, seconds: float) -> None:
        """Update steps, speed and wall time in the summary; ``seconds`` is the duration of this session so far."""
        self.summary.steps_done = step
        self.summary.wall_seconds = round(self._earlier_seconds + seconds, 3)
        self.summary.speed = SpeedRecord(steps_per_second=round(steps_per_second, 2), ns_per_day=round(ns_per_day, 4))

    def temperature(self, snapshot: Snapshot) -> float:
        """Return the instantaneous temperature, K."""
        return temperature(kinetic_energy(self._masses, snapshot.velocities), self._freedom)

    def flush(self) -> None:
        """Flush the trajectory and ``thermo.csv`` to disk."""
        self._trajectory.flush()
        self._thermo.flush()

    def note(self, violation: Violation, snapshot: Snapshot) -> None:
        """Record a violation with its frame and stop checking the rule."""
        name = f"violation-{violation.rule}.extxyz"
        self._broken_frame(name, violation, snapshot)
        self.summary.violations.append(ViolationRecord(**violation.as_dict(), frame=name))
        self.rules.retire(violation.rule)
        LOGGER.warning(f"{violation.message}: recorded; the run continues")

    def go_back(self, violation: Violation, snapshot: Snapshot) -> RestartState:
        """Truncate the files to the last restart state and return this state."""
        assert self.kept is not None
        name = f"violation-{len(self.summary.violations)}.extxyz"
        self._broken_frame(name, violation, snapshot)
        self.summary.violations.append(ViolationRecord(**violation.as_dict(), frame=name))
        LOGGER.warning(f"{violation.message}: returning to step {self.kept.step} with new random numbers")
        self.close()
        self._open(self.kept.step)
        return self.kept

    def stop(self, violation: Violation, snapshot: Snapshot) -> None:
        """Stop the replica because of a violation."""
        self.violation = violation
        self._broken_frame(files.STOPPED, violation, snapshot)
        self.summary.stop = ViolationRecord(**violation.as_dict())
        self.summary.outputs["stopped"] = files.STOPPED
        self.finish("stopped")

    def finish(self, result: Result) -> None:
        """Close the files and write the summary with the result ``completed``, ``interrupted`` or ``stopped``."""
        self.close()
        self.summary.finished = now()
        self.summary.result = result
        if (self.directory / self._name).is_file():  # missing if the run stopped before the first frame
            self.summary.outputs["trajectory"] = self._name
        self.summary.write(self.directory)

    def close(self) -> None:
        """Close the files."""
        self._trajectory.close()
        self._thermo.close()

    def broken(self, violation: Violation) -> str:
        """Return the error message for a violation."""
        time = violation.step * self._protocol.timestep / PICOSECOND
        return (
            f"the run became unphysical after {time:g} ps: {violation.message}; "
            f"earlier frames are in {self.directory}, and the unphysical frame is in {files.STOPPED}"
        )

    def _open(self, first: int) -> None:
        frames = max(first, 0) // self._protocol.trajectory_interval
        self._trajectory = create_trajectory(self.directory / self._name, self._structure, self._protocol, frames)
        mass = float(self._masses.sum()) if self._structure.pbc.all() else None
        self._thermo = ThermoWriter(self.directory / files.THERMO, self._protocol.timestep, first, mass)

    def _broken_frame(self, name: str, violation: Violation, snapshot: Snapshot) -> None:
        info = {"step": violation.step, "stopped_by": violation.rule}
        files.write_structure(self.directory / name, self._structure, snapshot, **info)
