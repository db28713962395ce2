"""The table of an ensemble: its members, their mean and spread, and their mean prediction."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from piwsl.training.ensemble import mean_and_deviation

if TYPE_CHECKING:
    from piwsl.training.ensemble import EnsembleResult

# Title, field of the errors, factor.
_COLUMNS = (
    ("energy MAE [meV]", "energy_mae", 1e3),
    ("energy RMSE [meV]", "energy_rmse", 1e3),
    ("force MAE [meV/A]", "force_mae", 1e3),
    ("force RMSE [meV/A]", "force_rmse", 1e3),
)


def ensemble_lines(result: "EnsembleResult") -> list[str]:
    """The errors on the test frames (else the validation frames) as text, then the files."""
    together = result.test or result.validation
    columns = [column for column in _COLUMNS if getattr(together, column[1]) is not None]
    members = [[getattr(one.errors, name) for _, name, _ in columns] for one in result.members]
    spread = [mean_and_deviation(values) for values in zip(*members, strict=True)]
    rows: list[tuple[str, Sequence[float | None]]] = [
        *((f"seed {one.seed}", values) for one, values in zip(result.members, members, strict=True)),
        ("mean", [both and both[0] for both in spread]),
        ("standard deviation", [both and both[1] for both in spread]),
        ("mean prediction", [getattr(together, name) for _, name, _ in columns]),
    ]
    titles = [title for title, _, _ in columns]
    lines = [f"{result.judged_on + ' errors':<18}  {'  '.join(titles)}"]
    for title, values in rows:
        cells = (
            ("-" if value is None else f"{factor * value:.1f}").rjust(len(heading))
            for value, (heading, _, factor) in zip(values, columns, strict=True)
        )
        lines.append(f"{title:<18}  {'  '.join(cells)}")
    return [*lines, *(f"model      {member.model}" for member in result.members), f"ensemble   {result.file}"]
