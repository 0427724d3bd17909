"""One word for what a comparison amounts to: every row of the table in docs/how-to/reproduce.md."""

import re
from pathlib import Path

import pytest

from mlobs.repro.comparison import Comparison, Divergence
from mlobs.repro.report import ReproReport
from mlobs.repro.verdict import EXIT_CODES, MEANINGS, judge

NEAR = Divergence("loss", 3, 0.5, 0.5000001, 2e-7, 2e-7, is_within=True)
FAR = Divergence("loss", 3, 0.5, 0.6, 0.17, 0.2, is_within=False)


def result(**facts):
    given = {
        "params": (),
        "datasets": (),
        "divergences": (),
        "unmatched": (),
        "model_differences": (),
        "points": 5,
        "models": 1,
    }
    return Comparison(**(given | facts))


IDENTICAL = result()
WITHIN = result(divergences=(NEAR,), model_differences=("model net: leaf $.w differs",))
OUTSIDE = result(divergences=(NEAR, FAR))


@pytest.mark.parametrize(
    ("comparisons", "among", "obstacles", "verdict"),
    [
        ([IDENTICAL], [], [], "identical"),
        ([IDENTICAL, IDENTICAL], [IDENTICAL], [], "identical"),
        ([WITHIN], [], [], "equivalent"),
        ([WITHIN, WITHIN], [IDENTICAL], [], "equivalent"),
        ([result(model_differences=("model net: leaf $.w differs",))], [], [], "equivalent"),
        ([OUTSIDE, OUTSIDE], [IDENTICAL], [], "different"),
        ([result(unmatched=("metric loss: 2 values of one run alone",))], [], [], "different"),
        ([result(params=("param lr: 0.1 -> 0.2",))], [], [], "inputs-differ"),
        (
            [result(datasets=("dataset train: column x changed",), divergences=(NEAR,))],
            [],
            [],
            "inputs-differ",
        ),
        ([OUTSIDE, OUTSIDE], [OUTSIDE], [], "nondeterministic"),
        ([WITHIN, WITHIN], [WITHIN], [], "nondeterministic"),
        ([IDENTICAL, WITHIN], [WITHIN], [], "nondeterministic"),
        ([], [], [], "unverifiable"),
        ([], [], ["the code is not there"], "unverifiable"),
        ([IDENTICAL], [], ["environment: not captured"], "unverifiable"),
        ([result(points=0, models=0)], [], [], "unverifiable"),
    ],
)
def test_the_verdict_is_that_of_the_table(comparisons, among, obstacles, verdict):
    assert judge(comparisons, among, obstacles) == verdict


@pytest.mark.parametrize("outcome", [IDENTICAL, WITHIN, OUTSIDE])
@pytest.mark.parametrize(
    "failed", [{"params": ("param lr: 0.1 -> 0.2",)}, {"datasets": ("dataset train: column x changed",)}]
)
def test_a_failed_precondition_is_never_read_as_a_result(outcome, failed):
    facts = {name: getattr(outcome, name) for name in ("divergences", "model_differences")}
    for obstacles in ([], ["native: not captured"]):
        assert judge([result(**facts, **failed)], [], obstacles) == "inputs-differ"
        assert judge([outcome, result(**facts, **failed)], [outcome], obstacles) == "inputs-differ"


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [(IDENTICAL, "identical"), (WITHIN, "unverifiable"), (OUTSIDE, "unverifiable")],
)
def test_data_of_which_nobody_can_tell_is_no_proof_of_the_same_inputs(outcome, verdict):
    facts = {name: getattr(outcome, name) for name in ("divergences", "model_differences")}
    doubtful = result(**facts, uncertain=("dataset train: its name is the same",))
    assert judge([doubtful], []) == verdict
    assert judge([doubtful, doubtful], [outcome]) == verdict


def test_every_verdict_has_a_meaning_and_the_exit_code_of_the_page():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "reproduce.md"
    rows = re.findall(r"^\| ([a-z-]+) \|.*\| (\d)[^|]*\|$", page.read_text("utf-8"), re.MULTILINE)
    assert {name: int(code) for name, code in rows} == EXIT_CODES
    assert MEANINGS.keys() == EXIT_CODES.keys()


def test_a_report_reads_from_the_verdict_to_the_cause():
    report = ReproReport(
        "different",
        "run-1",
        checks=("the code was restored",),
        causes=("OpenBLAS kernel SkylakeX -> Haswell",),
        first_divergence=FAR,
        points=1200,
        models=2,
        ignored=("epoch_time",),
        notes=("the run was resumed",),
        folder="/tmp/x",
    )
    assert str(report).splitlines() == [
        "DIFFERENT: the same inputs gave other results, and repetitions agree with each other",
        "compared 1,200 metric values and 2 models of run-1",
        "  ok: the code was restored",
        "  not compared: epoch_time (what a clock measured)",
        "  note: the run was resumed",
        "  likely cause: OpenBLAS kernel SkylakeX -> Haswell",
        "  first divergence: loss at step 3: 0.5 -> 0.6 (relative 0.17, at worst 0.2)",
        "  kept in /tmp/x",
    ]
    assert report.exit_code == 1


def test_a_check_that_ran_nothing_says_so_and_passes_if_all_is_there():
    ready = ReproReport("unverifiable", "run-1", checks=("it can be started",), is_check_only=True)
    assert str(ready).startswith("CHECKED: all that is needed is there; nothing was run")
    assert ready.exit_code == 0
    lacking = ReproReport("unverifiable", "run-1", obstacles=("code: not captured",), is_check_only=True)
    assert str(lacking).startswith("UNVERIFIABLE")
    assert lacking.exit_code == 4
    changed = ReproReport(
        "inputs-differ", "run-1", inputs=("dataset a: column x changed",), is_check_only=True
    )
    assert changed.exit_code == 2
