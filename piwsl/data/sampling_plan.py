"""What a labelling job by reference dynamics computes. (Given structures: `piwsl.data.labelling_plan`.)"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from piwsl.errors import ConfigError


@dataclass(frozen=True)
class SamplingPlan:
    """What to compute: everything that decides the numbers, so that equal plans give equal data."""

    method: str = "gfn2-xtb"
    trajectories: int = 4
    steps: int = 50_000  # per trajectory, after equilibration
    equilibration_steps: int = 4_000
    frame_interval: int = 100  # steps between labelled frames
    position_interval: int = 40  # steps between frames of the positions-only trajectory
    chunk_steps: int = 2_000
    temperature: float = 500.0  # K
    timestep: float = 0.5  # fs
    friction: float = 0.01  # 1/fs
    force_tolerance: float = 0.005  # eV/angstrom, of the minimisation before
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)  # of the calculator, by name

    def __post_init__(self) -> None:
        for name in ("trajectories", "steps", "frame_interval", "position_interval", "chunk_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("frame_interval", "position_interval"):
            if self.chunk_steps % getattr(self, name):
                raise ConfigError(f"{name} must divide chunk_steps ({self.chunk_steps})")
        for name in ("steps", "equilibration_steps"):
            if getattr(self, name) % self.chunk_steps:
                raise ConfigError(f"{name} must be a multiple of chunk_steps ({self.chunk_steps})")

    @property
    def chunks(self) -> int:
        """Number of chunks of one trajectory, equilibration included."""
        return (self.equilibration_steps + self.steps) // self.chunk_steps
