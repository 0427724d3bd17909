"""A condition is understood or refused with its place, and never fails at a run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlobs.errors import UsageError
from mlobs.read.points import Summary
from mlobs.read.run_summary import RunSummary
from mlobs.read.where import condition

RUN = RunSummary(
    run_id="20240131-120000-000000-abcdef",
    experiment="churn",
    name="base",
    status="FINISHED",
    reason="",
    started_at=1_706_702_400.0,  # 2024-01-31 12:00 UTC
    ended_at=1_706_702_460.0,
    parent_run_id=None,
    params={"lr": 0.05, "optimizer.name": "adam", "layers": [64, 32], "gone": None, "deep": True},
    tags={"team": "vision", "a b": "x"},
    metrics={
        "val/acc": Summary(last=0.8, last_step=9, min=0.1, max=0.95, points=10, first=0.1, mean=0.6),
        "loss.max": Summary(last=1.0, last_step=0, min=1.0, max=1.0, points=1, first=1.0, mean=1.0),
        "bad": Summary(math.nan, 0, math.nan, math.nan, 1, math.nan, math.nan),
    },
)


@pytest.mark.parametrize(
    "text",
    [
        "params.lr < 0.1 and metrics['val/acc'].max > 0.9",
        "metrics['val/acc'] == 0.8",
        "metrics['val/acc'].first < metrics['val/acc'].mean < metrics['val/acc'].last",
        "metrics['val/acc'].points == 10",
        "metrics['loss.max'] == 1",
        "params.optimizer.name == 'adam'",
        "params['optimizer.name'] in ('adam', 'sgd')",
        "params.lr * 2 + 1 == 1.1",
        "-params.lr < 0",
        "64 in params.layers",
        "params.deep",
        "not params.lr > 1",
        "status == 'FINISHED' and experiment != 'x'",
        "status in ['FINISHED', 'FAILED'] and 'FINISH' < status",
        "'vision' in tags.team",
        "tags['a b'] == 'x'",
        "'lr' in params and 'momentum' not in params",
        "'bad' in metrics",
        "started >= '2024-01-31' and started < '2024-02-01T00:00:00Z'",
        "started < '7d'",
        "duration_s == 60",
        "params.missing > 1 or params.lr < 1",
        "(params.lr\n < 1)",
    ],
)
def test_a_run_fulfils_what_is_true_of_it(text):
    assert condition(text)(RUN)


@pytest.mark.parametrize(
    "text",
    [
        "params.lr > 0.1",
        "params.lr > 'a lot'",
        "params.lr / 0 > 1",
        "params.lr % 'x' > 1",
        "metrics.bad > 0 or metrics.bad <= 0",
        "parent_run_id == 'x'",
        "tags.team > 5",
        "params.layers < 3",
        "5 in tags.team",
        "tags.team > started",
        "'a' * 1000000000 == 'b'",
    ],
)
def test_what_is_not_true_of_a_run_or_makes_no_sense_for_it_leaves_it_out(text):
    assert not condition(text)(RUN)


@pytest.mark.parametrize("text", ["params.missing > 1", "params.missing != 1", "params.missing in [1]"])
def test_what_a_run_does_not_have_is_neither_true_nor_false(text):
    assert not condition(text)(RUN)
    assert not condition(f"not {text}")(RUN)
    assert condition(f"{text} or status == 'FINISHED'")(RUN)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("f(1)", "`f(1)` is not understood here (at character 1 "),
        ("params.lr < 1 and __import__('os')", "(at character 19 "),
        ("params.lr.__class__()", "is not understood"),
        ("[x for x in params]", "is not understood"),
        ("lambda: 1", "is not understood"),
        ("params.lr <", "(at character "),
        ("param.lr < 1", "`param.lr` is not known; names are params, metrics"),
        ("loss < 1", "a metric metrics.loss, a text 'loss' (at"),
        ("status == 'finished'", "`'finished'` is no status; expected one of RUNNING, FINISHED"),
        ("status in ['FAILED', 'DEAD']", "`'DEAD'` is no status"),
        ("status.x == 1", "has nothing behind its name"),
        ("metrics['loss'].median > 1", "expects one of .last, .min"),
        ("metrics['a']['b'] > 1", "one name in brackets"),
        ("params.lr is None", "behind `is`"),
        ("2 ** 9 > 1", "is not understood"),
        ("params[0] > 1", "is not understood"),
        ("started > 'soon'", "(at character 11 "),
        ("b'x' == 1", "is not understood"),
        ("", "(at character 1 "),
        ("(" * 500 + "1" + ")" * 500, "where: "),
        ("a = 1", "(at character "),
    ],
)
def test_anything_else_is_refused_with_its_place_and_an_example(text, where):
    with pytest.raises(UsageError) as caught:
        condition(text)
    assert where in str(caught.value) or "nested" in str(caught.value)


_leaves = st.sampled_from(
    [
        "params.lr",
        "params.none",
        "metrics.bad",
        "tags.team",
        "status",
        "started",
        "duration_s",
        "params.layers",
    ]
) | st.sampled_from(["1", "0", "-2.5", "'x'", "'7d'", "None", "True", "[1, 2]", "params", "metrics"])
_texts = st.recursive(
    _leaves,
    lambda inner: (
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(["<", "==", "!=", ">=", "in", "not in", "and", "or", "+", "*", "/", "//", "%"]),
            inner,
        )
        | st.builds("(not {})".format, inner)
    ),
    max_leaves=8,
)


@given(_texts)
def test_what_was_understood_never_fails_at_a_run(text):
    try:
        asked = condition(text)
    except UsageError:
        return  # a time that is compared with what is none
    assert asked(RUN) in (True, False)
