"""What the comparison of a run with its repetitions amounts to: one word, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from mlobs.repro.comparison import Comparison

Verdict: TypeAlias = Literal[
    "identical", "equivalent", "different", "inputs-differ", "nondeterministic", "unverifiable"
]

EXIT_CODES: dict[Verdict, int] = {
    "identical": 0,
    "equivalent": 0,
    "different": 1,
    "inputs-differ": 2,
    "nondeterministic": 3,
    "unverifiable": 4,
}
MEANINGS: dict[Verdict, str] = {
    "identical": "every metric value and every model is the same, to the last bit",
    "equivalent": "every metric value is within the tolerance, but not all is the same to the last bit",
    "different": "the same inputs gave other results, and repetitions agree with each other",
    "inputs-differ": "code, data or params are not those of the record, so the results were not judged",
    "nondeterministic": "repetitions with the same inputs disagree among themselves",
    "unverifiable": "something that is needed to tell was not captured, or could not be run again",
}


def judge(
    comparisons: Sequence[Comparison], among: Sequence[Comparison] = (), obstacles: Sequence[str] = ()
) -> Verdict:
    """Judge a run by its comparisons with repetitions, and those `among` the repetitions themselves.

    `obstacles` are reasons why nobody can tell. Other inputs come before all: a result near the recorded
    one must not pass for a repetition of it. Data that nobody can tell to be the same leaves only one
    verdict to give: identical.
    """
    if any(not one.has_same_inputs for one in comparisons):
        return "inputs-differ"
    if obstacles or not comparisons or not all(one.has_results for one in comparisons):
        return "unverifiable"
    if all(one.is_identical for one in comparisons):
        return "identical"
    if not all(one.has_known_inputs for one in comparisons):
        return "unverifiable"
    if any(not one.is_identical for one in among):
        return "nondeterministic"
    return "equivalent" if all(one.is_within_tolerance for one in comparisons) else "different"
