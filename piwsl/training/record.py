"""What happened in a training step: the loss terms of its parts, and whether all is finite."""

import math

import torch
from torch import Tensor

from piwsl.errors import PiwslError
from piwsl.training.parallel import gathered, process_count, summed


class DivergedError(PiwslError):
    """The loss or its gradient is no longer a finite number."""


class StepRecord:
    """Loss terms of the parts of a step, on this process, until the step is done."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []
        self._frames: list[Tensor] = []

    def add(self, loss: Tensor, terms: dict[str, Tensor], frames: Tensor) -> None:
        """Add a part: its loss, the terms of it, and the frames (S,) it was computed from."""
        self._parts.append({"loss": loss.detach(), **terms})
        self._frames.append(frames)

    def finish(self, step: int, gradient_norm: Tensor) -> dict[str, float]:
        """The loss and its terms, as means over parts and processes.

        Raises:
            DivergedError: the gradient, which is the same on all processes, is not finite; names step and frames.
        """
        names = list(dict.fromkeys(name for part in self._parts for name in part))
        sums = [torch.stack([part[name] for part in self._parts if name in part]).sum() for name in names]
        means = summed(torch.stack(sums)) / (len(self._parts) * process_count())
        # One transfer to the processor for all figures.
        *values, norm = torch.cat([means, gradient_norm.detach().to(means).reshape(1)]).tolist()
        if not math.isfinite(norm):
            self._stop(step, values[names.index("loss")])
        self._parts, self._frames = [], []
        return dict(zip(names, values, strict=True))

    def _stop(self, step: int, loss: float) -> None:
        mine = [
            frames.tolist()
            for part, frames in zip(self._parts, self._frames, strict=True)
            if math.isfinite(loss) or not torch.isfinite(part["loss"])
        ]
        frames = [frame for process in gathered(mine) for part in process for frame in part]
        what = "the gradient of the loss is not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise DivergedError(
            f"{what} at step {step} (frames {', '.join(map(str, frames))}): lower the learning rate or the "
            "coefficients; the last checkpoint is kept"
        )
