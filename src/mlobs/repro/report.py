"""The result of a reproduction, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from mlobs.repro.comparison import Divergence
from mlobs.repro.verdict import EXIT_CODES, MEANINGS, Verdict


class ReproReport(msgspec.Struct, frozen=True):
    """What came of comparing a run with its repetitions, or with another run.

    - `verdict`: identical, equivalent, different, inputs-differ, nondeterministic or unverifiable.
    - `checks`: what was checked before, and found in order. `obstacles`: why something cannot be told.
    - `notes`: what could not be checked, or was otherwise then, and need not matter.
    - `inputs`: how params, data or code differ. `causes`: what else differs, the most telling first.
    - `first_divergence`: the metric and step at which the results part. `divergences`: all metrics that do.
    - `results`: what else differs in the results. `spread`: how far repetitions are apart, by metric.
    - `points`, `models`: how many values and models were compared. `ignored`: metrics that a clock makes.
    - `folder`: where the repetition lies; None if it was removed.
    - `is_check_only`: nothing was run, so there is no result; without obstacles all that is needed is there.
    """

    verdict: Verdict
    run_id: str
    repetitions: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    first_divergence: Divergence | None = None
    divergences: tuple[Divergence, ...] = ()
    spread: tuple[str, ...] = ()
    points: int = 0
    models: int = 0
    ignored: tuple[str, ...] = ()
    folder: str | None = None
    seconds: float = 0.0
    is_check_only: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Nothing was run, and all that is needed for it is there."""
        return self.is_check_only and not self.obstacles and not self.inputs

    @property
    def exit_code(self) -> int:
        """0 identical, equivalent, ready; 1 different, 2 inputs-differ, 3 nondeterministic, 4 no verdict."""
        return 0 if self.is_ready else EXIT_CODES[self.verdict]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(report: ReproReport) -> Iterator[str]:
    if report.is_ready:
        yield "CHECKED: all that is needed is there; nothing was run"
    else:
        yield f"{report.verdict.upper()}: {MEANINGS[report.verdict]}"
    if report.points or report.models:
        values = f"{report.points:,} metric value{'s' * (report.points != 1)}"
        models = f" and {report.models} model{'s' * (report.models != 1)}" if report.models else ""
        yield f"compared {values}{models} of {report.run_id}"
    for check in report.checks:
        yield f"  ok: {check}"
    if report.ignored:
        yield f"  not compared: {', '.join(report.ignored)} (what a clock measured)"
    for title, lines in (
        ("note", report.notes),
        ("obstacle", report.obstacles),
        ("input", report.inputs),
        ("result", report.results),
        ("likely cause", report.causes),
        ("spread", report.spread),
    ):
        for line in lines:
            yield f"  {title}: {line}"
    first = report.first_divergence
    if first is not None:
        yield (
            f"  first divergence: {first.metric} at step {first.step}: {first.first!r} -> {first.second!r}"
            f" (relative {first.relative:.2g}, at worst {first.worst:.2g})"
        )
    if report.folder:
        yield f"  kept in {report.folder}"
