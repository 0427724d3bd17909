"""Two recorded runs: the same recipe, the same model? Nothing is run."""

import pytest
from programs_of_runs import NATIVE, dataset, entry, losses, model, parts, program_run
from recorded import add_writer

import mlobs
from mlobs.errors import UsageError
from mlobs.journal.store import Store
from mlobs.repro.recipe import recipe_tags
from mlobs.repro.verify import verify


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


def tagged(store, *events, **facts):
    """A run with the tags that its sender gives it at its end."""
    record = program_run(store, *events, **facts)
    tags = recipe_tags(record)
    if tags is not None:
        add_writer(record.folder, tags)
    return mlobs.load_run(record.run_id, store=store.path)


def other_machine():
    return parts(native=NATIVE | {"libraries": [{"api": "openblas", "file": "x", "threads": 1}]})


def verified(store, first, second=None, **how):
    return verify(first.run_id, None if second is None else second.run_id, store=store.path, **how)


def test_equal_runs_are_identical_and_what_agrees_is_said(store):
    first, second = (tagged(store, *losses(0.5, 0.4), model()) for _ in range(2))
    report = verified(store, first, second)
    assert (report.verdict, report.points, report.models, report.exit_code) == ("identical", 2, 1, 0)
    assert report.repetitions == (second.run_id,)
    assert report.checks == (
        "the recipes are the same: code, entry point, params, data, environment and seeds",
        "the machines compute alike: kernels, threads, GPUs",
    )
    assert report.causes == report.obstacles == ()


def test_the_same_recipe_on_the_same_machine_with_another_model_is_nondeterministic(store):
    first = tagged(store, *losses(0.5), model("1"))
    report = verified(store, first, tagged(store, *losses(0.5), model("2")))
    assert (report.verdict, report.exit_code) == ("nondeterministic", 3)
    assert report.results == ("model net: leaf $.w differs",)


def test_on_another_machine_it_is_equivalent_or_different_and_the_cause_is_named(store):
    first = tagged(store, *losses(0.5))
    near = verified(store, first, tagged(store, *losses(0.5 + 1e-9), snapshot=other_machine()))
    assert (near.verdict, near.exit_code) == ("equivalent", 0)
    assert near.causes
    other = tagged(store, *losses(0.6), snapshot=other_machine())
    far = verified(store, first, other)
    assert (far.verdict, far.exit_code) == ("different", 1)
    assert verified(store, first, other, rtol=0.5).verdict == "equivalent"


def test_of_machines_that_are_not_known_nobody_says_that_they_are_the_same(store):
    runs = [tagged(store, *losses(value), snapshot=parts(native=None)) for value in (0.5, 0.6)]
    assert verified(store, *runs).verdict == "different"


def test_without_another_run_it_is_the_latest_with_the_same_recipe(store):
    first = tagged(store, *losses(0.5), at=1000.0)
    tagged(store, *losses(0.5), at=2000.0)
    wanted = tagged(store, *losses(0.5), at=3000.0)
    tagged(store, *losses(0.5), params={"lr": 9}, at=4000.0)
    assert verified(store, first).repetitions == (wanted.run_id,)


def test_the_same_machine_counts_more_than_the_date(store):
    first = tagged(store, *losses(0.5), at=1000.0)
    wanted = tagged(store, *losses(0.5), at=2000.0)
    tagged(store, *losses(0.5), snapshot=other_machine(), at=3000.0)
    assert verified(store, first).repetitions == (wanted.run_id,)


def test_a_run_that_failed_half_way_is_not_taken_for_a_repetition(store):
    first = tagged(store, *losses(0.5, 0.4), at=1000.0)
    wanted = tagged(store, *losses(0.5, 0.4), at=2000.0)
    broken = tagged(store, *losses(0.5), status="FAILED", at=3000.0)
    assert verified(store, first).repetitions == (wanted.run_id,)
    report = verified(store, first, broken)
    assert (report.verdict, report.exit_code) == ("unverifiable", 4)
    assert "FAILED" in report.obstacles[0]


def test_nothing_like_it_and_nothing_known_say_what_to_type(store):
    lonely = tagged(store, *losses(0.5))
    with pytest.raises(UsageError, match=rf"no other run has the recipe .* mlobs reproduce {lonely.run_id}"):
        verified(store, lonely)
    unknown = program_run(store, *losses(0.5), snapshot=[])
    with pytest.raises(UsageError, match=r"not known \(entry: not captured; .* type|mlobs verify RUN OTHER"):
        verified(store, unknown)
    with pytest.raises(UsageError, match="both are run"):
        verified(store, lonely, lonely)
    with pytest.raises(UsageError, match="`mlobs runs` lists them"):
        verify("gone", store=store.path)


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"params": {"lr": 0.2}}, "param lr: 0.1 -> 0.2"),
        (
            {"snapshot": parts(code={"path": "/p", "place": "", "tree": "b" * 40, "kind": "plain"})},
            "code of the program",
        ),
        ({"events": [dataset(text="tfp1:2")]}, "dataset train: the content changed"),
    ],
    ids=["params", "code", "data"],
)
@pytest.mark.parametrize("value", [0.5, 0.5 + 1e-12, 0.9])
def test_other_inputs_are_never_judged(store, other, line, value):
    given = {"params": {"lr": 0.1}} | {key: one for key, one in other.items() if key != "events"}
    first = tagged(store, dataset(), *losses(0.5), params={"lr": 0.1})
    report = verified(store, first, tagged(store, *other.get("events", [dataset()]), *losses(value), **given))
    assert (report.verdict, report.exit_code) == ("inputs-differ", 2)
    assert report.inputs[0].startswith(line)


def test_of_code_that_was_not_captured_only_the_same_result_tells(store):
    unknown = [program_run(store, *losses(value), snapshot=[]) for value in (0.5, 0.5, 0.5 + 1e-9)]
    assert verified(store, *unknown[:2]).verdict == "identical"
    report = verified(store, *unknown[1:])
    assert report.verdict == "unverifiable"
    assert "code: not captured" in report.obstacles


def test_other_arguments_are_a_cause_that_is_named(store):
    first = tagged(store, *losses(0.5))
    other = parts(entry=entry(arguments=("--lr", "0.2")), seeds={"seed": 8})
    report = verified(store, first, tagged(store, *losses(0.9), snapshot=other))
    assert report.verdict == "different"
    assert report.causes[:2] == ("arguments: --lr 0.1 -> --lr 0.2", "seed: 7 -> 8")


def test_runs_without_results_are_unverifiable(store):
    report = verified(store, tagged(store), tagged(store))
    assert report.verdict == "unverifiable"
    assert report.obstacles == ("the runs have no metric values and no models in common",)


def test_folds_of_one_program_are_verified_by_their_place_in_it(store):
    runs = {}
    for at in (1000.0, 2000.0):
        outer = tagged(store, at=at, number=1)
        for fold in (2, 3):
            runs[at, fold] = program_run(
                store,
                *losses(0.1 * fold),
                snapshot=[],
                parent_run_id=outer.run_id,
                at=at + fold,
                number=fold,
            )
    report = verified(store, runs[1000.0, 3])
    assert (report.verdict, report.repetitions) == ("identical", (runs[2000.0, 3].run_id,))
