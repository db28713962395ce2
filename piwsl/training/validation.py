"""One validation: errors and the supervised loss over all validation frames, gathered over the processes."""

from collections.abc import Sequence
from dataclasses import dataclass

from piwsl.data.batch import Batch
from piwsl.losses.points import Points
from piwsl.losses.terms import Term
from piwsl.training.metrics import Errors, ErrorSums
from piwsl.training.parallel import gathered


@dataclass(frozen=True)
class ValidationResult:
    """Errors on the validation frames, and the weighted sum of the supervised terms."""

    errors: Errors
    loss: float


class Validation:
    """Collects predictions batch by batch; its loss does not depend on how the frames were divided.

    Args:
        terms: of the loss, with their coefficients.
    """

    def __init__(self, terms: Sequence[tuple[Term, float]]) -> None:
        self.terms = terms
        self._errors = ErrorSums()
        self._sums = [0.0] * len(terms)
        self._counts = [0] * len(terms)

    def add(self, points: Points, batch: Batch) -> None:
        """Add a batch."""
        self._errors.add(points, batch)
        for index, (term, _) in enumerate(self.terms):
            if term.applies(batch):
                values, labelled = term(points, batch)
                self._sums[index] += float(values[labelled].detach().sum())
                self._counts[index] += int(labelled.sum())

    def result(self) -> ValidationResult:
        """The result over all processes, the same on each."""
        portions = gathered((self._errors, self._sums, self._counts))
        loss = 0.0
        for index, (_, coefficient) in enumerate(self.terms):
            count = sum(counts[index] for _, _, counts in portions)
            if count:
                loss += coefficient * sum(sums[index] for _, sums, _ in portions) / count
        return ValidationResult(ErrorSums.merged(errors for errors, _, _ in portions).errors(), loss)
