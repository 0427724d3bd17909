"""What a run records, and what it says and counts when it cannot."""

import math
import re
import sys
import threading
from collections.abc import Mapping

import numpy as np
import pytest

import mlobs
from mlobs.errors import UsageError
from mlobs.events import Metrics, RunFinished
from mlobs.journal.reader import Reader
from mlobs.journal.store import Store
from mlobs.program import program
from mlobs.testing import MemoryBackend


@pytest.fixture
def tracker(tmp_path):
    return mlobs.Tracker("unit", store=tmp_path / "store")


@pytest.fixture
def run(tracker):
    with tracker.start_run() as run:
        yield run


def record(run):
    return mlobs.load_run(run.id, store=run._opened.folder.store)


def points(run, key):
    frame = mlobs.metrics(store=run._opened.folder.store, run_ids=run.id, keys=key)
    return list(zip(frame["step"].tolist(), frame["value"].tolist(), strict=True))


def events(run, kind):
    found = []
    for journal in run._opened.folder.journals():
        with Reader(journal) as reader:
            found += [event for _, _, event in reader.events() if isinstance(event, kind)]
    return found


def here(offset):
    """This file and the line so many lines above the caller's."""
    return f"{__file__}:{sys._getframe(1).f_lineno + offset}"


def test_steps_that_are_left_out_are_counted_per_name(run):
    for value in (1.0, 2.0, 3.0):
        run.log_metric("a", value)
    run.log_metric("b", 1.0)
    run.log_metrics({"a": 4.0, "b": 2.0, "c": 1.0})

    assert points(run, "a") == [(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)]
    assert points(run, "b") == [(0, 1.0), (1, 2.0)]
    assert points(run, "c") == [(0, 1.0)]


def test_steps_may_come_in_any_order_and_twice(run):
    for step in (5, 2, -7, 5, np.int64(9), 2.0, True):
        run.log_metric("a", 1.0, step=step)

    assert [step for step, _ in points(run, "a")] == [5, 2, -7, 5, 9, 2, 1]


def test_a_step_that_is_given_does_not_move_the_count(run):
    run.log_metric("a", 1.0)
    run.log_metric("a", 1.0, step=100)
    run.log_metric("a", 1.0)

    assert [step for step, _ in points(run, "a")] == [0, 100, 1]


def test_nan_and_infinity_are_kept_exactly(run):
    run.log_metrics({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 5e-324, "e": -0.0}, step=1)

    (event,) = events(run, Metrics)
    assert math.isnan(event.values["a"])
    assert (event.values["b"], event.values["c"], event.values["d"]) == (math.inf, -math.inf, 5e-324)
    assert math.copysign(1, event.values["e"]) == -1


def test_several_values_of_one_step_are_one_event(run):
    run.log_metrics({"a": 1, "b": 2}, step=3, meta={"fold": 1})

    (event,) = events(run, Metrics)
    assert (event.step, event.values, event.meta) == (3, {"a": 1.0, "b": 2.0}, {"fold": 1})


def test_a_mapping_beside_a_value_never_costs_the_value(run):
    run.log_metric("a", 1.0, meta={1: np.float32(0.5)})

    assert events(run, Metrics)[0].meta == {"1": 0.5}


def test_a_bad_value_is_said_once_per_name_with_the_callers_line_and_counted(run, caplog):
    for _ in range(3):
        run.log_metric("loss", "high")
    place = here(-1)
    run.log_metric("acc", None)

    loss, acc = caplog.messages
    assert loss.startswith(f"{place}: log_metric('loss') was not recorded: metric 'loss' is str 'high'")
    assert "'acc'" in acc
    run.finish()
    assert events(run, RunFinished)[0].unrecorded == 4
    assert "4 calls were not recorded" in caplog.messages[-1]


def test_one_bad_value_does_not_cost_its_neighbours(run, caplog):
    run.log_metrics({"a": 1.0, "image": np.zeros((2, 2)), "b": 2.0, "": 3.0}, step=1)
    run.log_metrics({"a": 2.0, "image": "x"})
    run.set_tags({"stage": "dev", "": "x", "team": 7})

    assert points(run, "a") == [(1, 1.0), (0, 2.0)]
    assert points(run, "b") == [(1, 2.0)]
    assert record(run).tags == {"stage": "dev", "team": "7"}
    assert [re.search(r"log_metrics\('(.*)'\)", text)[1] for text in caplog.messages[:2]] == ["image", ""]


@pytest.mark.parametrize("metrics", [None, 0.5, ["loss"], "loss"], ids=repr)
def test_metrics_that_are_no_mapping_are_said(run, metrics, caplog):
    run.log_metrics(metrics)

    assert "expected a mapping" in caplog.text


def test_what_cannot_be_packed_is_said(run, caplog):
    run.log_metric("a", 1.0, step=2**70)
    run.log_metric("a", 10**400)
    run.log_metric("b", 1.0)

    assert len(caplog.messages) == 1  # both are one name's
    assert points(run, "b") == [(0, 1.0)]


def test_on_error_raise_makes_each_an_exception(tmp_path):
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", on_error="raise")
    with tracker.start_run() as run:
        for call in (
            lambda: run.log_metric("a", "x"),
            lambda: run.log_metrics({"b": 1.0, "a": "x"}),
            lambda: run.log_params(3),
            lambda: run.set_tag("", 1),
            lambda: run.log_text("../x", "text"),
            lambda: run.log_text("x", 3),
            lambda: run.log_artifact(tmp_path / "missing"),
            lambda: run.log_artifacts(tmp_path / "missing"),
        ):
            with pytest.raises(UsageError):
                call()
        assert events(run, Metrics) == []  # a refused call records nothing
        run.finish()
        with pytest.raises(UsageError, match="has ended"):
            run.log_metric("a", 1.0)


@pytest.mark.parametrize("name", ["näme 😀", "a/b", "../up", "a\nb", " ", "a\0b", "x" * 10_000, "NaN"])
def test_names_of_any_characters_are_kept(run, name):
    run.log_metric(name, 1.0)
    run.log_param(name, 1)
    run.set_tag(name, 1)

    kept = record(run)
    assert kept.last_metrics == {name: 1.0}
    assert kept.params == {name: 1}
    assert kept.tags == {name: "1"}


def test_huge_values_are_kept(run):
    text, items = "x" * 3_000_000, list(range(100_000))
    run.log_params({"text": text, "items": items, "number": 10**100})
    run.log_metrics({f"metric {number}": float(number) for number in range(20_000)}, step=1)
    run.log_text("notes", text)

    kept = record(run)
    assert kept.params == {"text": text, "items": items, "number": str(10**100)}
    assert len(kept.last_metrics) == 20_000
    assert kept.damage == ()


def test_a_name_that_comes_again_in_one_call_is_a_conflict_as_over_two(run, caplog):
    run.log_params({"a.b": 1, "a": {"b": 2}, "c": 3})

    assert record(run).params == {"a.b": 1, "c": 3}
    assert "a.b" in caplog.text


def test_a_name_of_half_a_character_costs_no_other_metric(run):
    run.log_metrics({"b\udcff": 1.0, "ok": 2.0}, step=1)
    run.log_metrics({"c\udcff": 1.0, "ok": 3.0})
    run.log_metric("d\udcff", 4.0)

    assert record(run).last_metrics == {r"b\udcff": 1.0, "ok": 3.0, r"c\udcff": 1.0, r"d\udcff": 4.0}


def test_a_name_of_half_a_character_takes_no_step_from_its_neighbours(run):
    for _ in range(2):
        run.log_metrics({"b\udcff": 1.0, "ok": 2.0})
        run.log_metric("c\udcff", 3.0)
        run.log_metrics({"d\udcff": 1.0, "late": 2.0}, step=5)

    assert points(run, "ok") == [(0, 2.0), (1, 2.0)]
    assert points(run, r"b\udcff") == [(0, 1.0), (1, 1.0)]
    assert points(run, r"c\udcff") == [(0, 3.0), (1, 3.0)]
    assert points(run, "late") == [(5, 2.0), (5, 2.0)]


class Unreadable(Mapping):
    def __getitem__(self, key):
        raise LookupError(key)

    def __iter__(self):
        raise RuntimeError("no fields")

    def __len__(self):
        raise RuntimeError("no length")


@pytest.mark.parametrize("call", ["log_params", "log_metrics", "set_tags"])
def test_a_mapping_that_cannot_be_read_is_said(run, caplog, call):
    getattr(run, call)(Unreadable())

    assert "Unreadable" in caplog.text


class Mute(Exception):
    def __str__(self):
        raise AttributeError("message")


class Odd:
    """Whatever is asked of it fails."""

    def item(self):
        raise Mute

    @property
    def __class__(self):
        raise RuntimeError("unbound")


def test_an_object_of_which_nothing_can_be_asked_costs_no_neighbour(run, caplog):
    run.log_metrics({"odd": Odd(), "ok": 2.0})
    run.log_metric("odd too", Odd())
    run.log_params({"odd": Odd(), "lr": 0.1})

    kept = record(run)
    assert kept.last_metrics == {"ok": 2.0}
    assert kept.params["lr"] == 0.1
    assert "Odd" in kept.params["odd"]
    assert [one for one in ("log_metrics('odd')", "log_metric('odd too')") if one not in caplog.text] == []


@pytest.mark.parametrize(("on_conflict", "counts"), [("keep_first", 1), ("overwrite", 2), ("raise", 1)])
def test_a_changed_param_is_settled_as_on_conflict_says(tmp_path, on_conflict, counts, caplog):
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", on_conflict=on_conflict)
    with tracker.start_run(params={"depth": 1, "lr": 0.1}) as run:
        run.log_params({"depth": 1.0, "lr": "0.1"})  # the same again
        assert caplog.messages == []
        run.log_param("depth", 2)
        assert record(run).params["depth"] == counts

    assert "'depth' was 1 and is now 2" in caplog.messages[0]
    assert (record(run).end.unrecorded == 1) is (on_conflict == "raise")


def test_the_first_end_counts(run, caplog):
    run.finish("FAILED", "no data")
    run.finish()

    assert (run.status, run.is_open) == ("FAILED", False)
    assert [event.status for event in events(run, RunFinished)] == ["FAILED"]
    run.log_metric("late", 1.0)
    assert "has ended (FAILED)" in caplog.messages[-1]


@pytest.mark.parametrize("status", ["COMPLETED", "ok", "", 0, 1, True, None, np.zeros(3)], ids=repr)
def test_an_end_in_an_unknown_word_is_no_success(run, status, caplog):
    run.finish(status)

    assert "so the run counts as FAILED; expected FINISHED, FAILED, KILLED or CRASHED" in caplog.messages[0]
    assert "type: run.finish('FAILED')" in caplog.messages[0]
    assert record(run).status == run.status == "FAILED"
    assert record(run).reason.startswith(f"status is {status!r}")


@pytest.mark.parametrize("status", ["failed", "Failed", "FAILED"])
def test_a_known_end_may_be_written_in_any_case(run, status, caplog):
    run.finish(status, "no data")

    assert caplog.messages == []
    assert (record(run).status, record(run).reason) == ("FAILED", "no data")


def test_with_on_error_raise_an_unknown_word_ends_the_run_all_the_same(tmp_path):
    run = mlobs.Tracker("unit", store=tmp_path / "store", on_error="raise").start_run()
    with pytest.raises(UsageError, match="status is 'done'"):
        run.finish("done")

    assert (record(run).status, run.is_open) == ("FAILED", False)


def test_threads_share_a_run(run):
    def log(name):
        for _ in range(500):
            run.log_metric("shared", 1.0)
            run.log_metric(name, 1.0)

    threads = [threading.Thread(target=log, args=(f"own {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(step for step, _ in points(run, "shared")) == list(range(4000))
    for number in range(8):
        assert [step for step, _ in points(run, f"own {number}")] == list(range(500))


def test_runs_that_start_at_once_on_many_threads_are_all_delivered(tmp_path):
    backend = MemoryBackend()
    tracker = mlobs.Tracker("unit", backends=[backend], store=tmp_path / "store", delivery="thread")
    start = threading.Barrier(8)

    def train(number):
        start.wait()
        with tracker.start_run(f"run {number}") as run:
            run.log_metric("a", float(number))

    threads = [threading.Thread(target=train, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    held = [sorted(type(event).__name__ for event in one.values()) for one in backend.held.values()]
    assert held == [["Metrics", "RunFinished", "RunStarted"]] * 8


def test_finish_waits_for_children_and_reports_what_they_lack(tmp_path, caplog):
    backend = MemoryBackend()
    tracker = mlobs.Tracker("unit", backends=[backend], store=tmp_path / "store", delivery="thread")
    with tracker.start_run() as run, run.child("fold") as child:
        child.log_metric("a", 1.0)
        child.log_metric("a", "bad")

    assert run.delivery()["memory"].is_settled
    assert child.delivery()["memory"].is_settled
    assert child.get_backend_ref("memory").id == f"memory-{child.id}"
    assert backend.held[child.id]
    assert "1 below it" in caplog.messages[-1]
    assert "1 call was not recorded" in caplog.messages[-1]
    with pytest.raises(UsageError, match="not one of this run's: memory"):
        run.get_backend_ref("mlflow")


@pytest.mark.parametrize("above", ["parent", "grandparent"])
def test_a_child_that_ends_after_its_parent_is_waited_for(tmp_path, above, caplog):
    backend = MemoryBackend()
    tracker = mlobs.Tracker("unit", backends=[backend], store=tmp_path / "store", delivery="thread")
    with tracker.start_run() as run:
        parent = run if above == "parent" else run.child("round")
        child = parent.child("fold")
        parent.finish()
        child.log_metric("a", 1.0)
        child.log_metric("a", "bad")
        child.finish()
        said_by_itself = [text for text in caplog.messages if "run fold" in text]

    assert child.delivery()["memory"].is_settled
    assert bool(said_by_itself) is (above == "parent")
    assert "1 call was not recorded" in (said_by_itself or caplog.messages)[-1]


def test_a_backend_whose_parameters_cannot_travel_is_refused_at_construction(tmp_path):
    with pytest.raises(UsageError, match="delivery='thread'"):
        mlobs.Tracker("unit", backends=[MemoryBackend()], store=tmp_path / "store")
    assert not list(Store(tmp_path / "store").runs())


def test_a_run_that_cannot_begin_has_failed_and_is_not_current(tmp_path):
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", on_error="raise")

    with pytest.raises(UsageError, match="params is int 5"):
        tracker.start_run(params=5)
    with tracker.start_run() as outer:
        with pytest.raises(UsageError, match="params is int 5"):
            outer.child(params=5)
        assert mlobs.current_run() is outer

    assert mlobs.current_run() is None
    statuses = mlobs.runs(store=tmp_path / "store")["status"].tolist()
    assert sorted(statuses) == ["FAILED", "FAILED", "FINISHED"]


def test_what_a_run_is_for_its_users_is_its_public_face(run):
    public = {name for name in dir(run) if not name.startswith("_")}

    assert not public & {"append", "begin", "close", "end", "leave", "mark"}


ODD_NAMES = {3: "3", "caf\udce9": r"caf\udce9", np.int64(7): "7", math.nan: "nan"}


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_run_of_any_name_reaches_its_backends(tmp_path, name, monkeypatch):
    backend = MemoryBackend()
    monkeypatch.setattr(sys, "argv", ["train\udce9.py"])
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", backends=[backend], delivery="thread")

    with tracker.start_run(name, experiment=name) as run, run.child(name) as child:
        child.log_metric("loss", 0.5)

    for one in (run, child):
        assert one.delivery()["memory"].is_settled
        assert (record(one).name, record(one).experiment) == (ODD_NAMES[name], ODD_NAMES[name])
        assert record(one).start.argv == (r"train\udce9.py",)


def test_an_end_in_any_words_is_the_end(tracker):
    with pytest.raises(OSError, match="no such"), tracker.start_run() as failed:
        raise OSError("no such file: caf\udce9")
    finished = tracker.start_run()
    finished.finish("FAILED", 7, traceback=["line", "line"])
    with pytest.raises(SystemExit), tracker.start_run() as left:
        raise SystemExit(10**30)

    assert (record(failed).status, record(failed).reason) == ("FAILED", r"OSError: no such file: caf\udce9")
    assert (record(finished).reason, record(finished).end.traceback) == ("7", "['line', 'line']")
    assert record(left).end.exit_code == -1
    assert record(failed).unknown == record(finished).unknown == ()


@pytest.fixture
def small_disk():
    """A function that makes no file grow beyond a size, as a full disk does; None ends that."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_param_that_found_no_room_is_not_known(run, small_disk, caplog):
    text = "x" * 3_000_000
    small_disk(2_000_000)
    run.log_param("text", text)
    assert "log_param('text') was not recorded" in caplog.text
    small_disk(None)
    run.log_param("text", text)

    assert record(run).params == {"text": text}


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_an_end_that_found_no_room_is_said_and_the_run_is_over(tmp_path, small_disk, caplog, on_error):
    run = mlobs.Tracker("unit", store=tmp_path / "store", on_error=on_error).start_run()
    small_disk(2_000_000)
    said = ""
    try:
        run.finish("FAILED", traceback="x" * 3_000_000)
    except mlobs.StoreError as error:
        said = str(error)
    small_disk(None)

    assert bool(said) is (on_error == "raise")
    assert "the end is not in the store, where the run will read as CRASHED" in said + caplog.text
    assert (run.status, run.is_open) == ("FAILED", False)
    assert mlobs.current_run() is None
    assert run.id not in program().runs


@pytest.mark.parametrize("call", [lambda run, step: run.log_metric("a", 1.0, step=step),
                                  lambda run, step: run.log_metrics({"a": 1.0}, step=step)])  # fmt: skip
def test_a_step_beyond_64_bits_is_refused_at_the_call(tmp_path, call):
    with mlobs.Tracker(store=tmp_path / "wide", on_error="raise").start_run() as run:
        call(run, 2**63 - 1)
        call(run, -(2**63))
        with pytest.raises(mlobs.UsageError, match="within 64 bits"):
            call(run, 2**63)
    assert mlobs.metrics(store=tmp_path / "wide")["step"].tolist() == [2**63 - 1, -(2**63)]
