"""A tracked function is the function it was, and each call of it is a run."""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import inspect
import types
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

import mlobs
from mlobs.errors import UsageError
from mlobs.testing import MemoryBackend


@pytest.fixture
def tracker(tmp_path):
    return mlobs.Tracker("unit", store=tmp_path / "store")


@pytest.fixture
def records(tracker):
    """What the store holds, oldest first, when called."""

    def read():
        frame = mlobs.runs(store=tracker.settings.store)
        return [mlobs.load_run(run_id, store=tracker.settings.store) for run_id in frame["run_id"]]

    return read


@dataclasses.dataclass
class Config:
    lr: float = 0.1
    layers: tuple = (64, 32)


class Tensor:
    """What torch.Tensor looks like from here."""

    shape = ()

    def size(self):
        return self.shape

    def item(self):
        return 0.5


def test_a_call_is_a_run_with_its_arguments_and_its_result(tracker, records):
    @tracker.track
    def train(data, config, *layers, depth=3, seed: int = 0, run=None, **more):  # noqa: ARG001
        """Train."""
        assert mlobs.current_run() is run
        run.log_metric("loss", 0.5, step=7)
        return {"accuracy": 0.9, "auc": np.float32(0.5), "size": Tensor()}

    result = train(pd.DataFrame({"a": [1, 2]}), Config(), 1, 2, depth=4, extra={"deep": {"er": 1}})

    assert result["accuracy"] == 0.9
    assert isinstance(result["size"], Tensor)
    assert (train.__name__, train.__doc__) == ("train", "Train.")
    assert list(inspect.signature(train).parameters) == [
        *("data", "config", "layers", "depth", "seed", "run", "more")
    ]
    (record,) = records()
    assert (record.name, record.status) == ("train", "FINISHED")
    assert record.params == {
        "data": "DataFrame[2, 1]",
        "config.lr": 0.1,
        "config.layers": [64, 32],
        "layers": [1, 2],
        "depth": 4,
        "seed": 0,
        "extra.deep.er": 1,
    }
    assert record.last_metrics == {"loss": 0.5, "accuracy": 0.9, "auc": 0.5, "size": 0.5}
    assert mlobs.metrics(store=tracker.settings.store, keys="auc")["step"].tolist() == [7]
    assert mlobs.current_run() is None


def test_the_numbers_among_other_results_are_final_metrics(tracker, records):
    tracker.track(lambda: {"auc": 0.9, "model": "sgd", "nested": {"a": 1}})()

    assert records()[0].last_metrics == {"auc": 0.9}


@pytest.mark.parametrize("result", [None, 0.5, {}, {"a": "b"}, {1: 2.0}, {"ok": True}], ids=repr)
def test_a_result_that_is_no_mapping_of_numbers_is_only_returned(tracker, records, result, caplog):
    assert tracker.track(lambda: result)() is result
    assert records()[0].last_metrics == {}
    assert caplog.messages == []


def test_final_metrics_stand_at_the_last_step_also_where_steps_are_counted(tracker):
    @tracker.track
    def train(run):
        for _ in range(5):
            run.log_metrics({"loss": 0.5, "accuracy": 0.5})
        return {"final": 1.0}

    train()

    assert mlobs.metrics(store=tracker.settings.store, keys="final")["step"].tolist() == [4]


def test_the_result_may_be_left_alone_and_the_run_named(tracker, records):
    @tracker.track(name="baseline", log_return=None)
    def train():
        return {"accuracy": 0.9}

    train()

    assert (records()[0].name, records()[0].last_metrics) == ("baseline", {})


def test_data_in_a_collection_is_described_not_recorded(tracker, records):
    @tracker.track
    def train(texts, table, layers):
        return len(texts) + len(table) + len(layers)

    train(["x"] * 100_000, {str(n): n for n in range(5000)}, [1] * 10)

    assert records()[0].params == {"texts": "list of 100,000", "table": "dict of 5,000", "layers": [1] * 10}


def test_an_exception_passes_and_the_run_has_failed(tracker, records):
    @tracker.track
    def train():
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        train()

    (record,) = records()
    assert (record.status, record.reason) == ("FAILED", "ValueError: no data")
    assert "in train" in record.end.traceback


class Step:
    """A callable object, which has no name of its own."""

    def __call__(self, x, y=2):
        return {"sum": x + y}


@pytest.mark.parametrize("function", [functools.partial(Step(), 1), functools.partial(divmod, 7), Step()])
def test_what_is_called_but_is_no_function_is_tracked(tracker, records, function):
    assert tracker.track(function)(3) == function(3)

    assert [one.status for one in records()] == ["FINISHED"]


class Shapeless:
    """An array that has no shape yet, as torch's UninitializedParameter."""

    dtype = "float32"

    @property
    def shape(self):
        raise RuntimeError("no shape yet")

    def item(self):
        return 1.0

    def __repr__(self):
        return "<no shape yet>"


class Proxy:
    """What stands for an object that is not there."""

    def __getattribute__(self, name):
        raise RuntimeError(f"not bound: {name}")


class Unreadable(Mapping):
    def __getitem__(self, key):
        raise LookupError(key)

    def __iter__(self):
        return iter(["accuracy"])

    def __len__(self):
        return 1


def test_an_argument_that_cannot_be_looked_at_costs_no_other(tracker, records, caplog):
    @tracker.track
    def train(weights, proxy, lr, data, **more):  # noqa: ARG001
        return {"accuracy": 0.9}

    assert train(Shapeless(), Proxy(), 0.1, np.zeros(1000), more=Shapeless()) == {"accuracy": 0.9}

    (record,) = records()
    assert record.status == "FINISHED"
    assert (record.params["lr"], record.params["weights"]) == (0.1, "<no shape yet>")
    assert record.last_metrics == {"accuracy": 0.9}
    assert [one.name for one in record.datasets] == ["data"]
    assert "track('weights') was not recorded" in caplog.text


@pytest.mark.parametrize("log_return", ["metrics", "models", "all"])
@pytest.mark.parametrize("kind", [Unreadable, Proxy])
def test_a_result_that_cannot_be_looked_at_is_returned(tracker, records, caplog, log_return, kind):
    result = kind()

    assert tracker.track(log_return=log_return)(lambda: result)() is result

    assert [one.status for one in records()] == ["FINISHED"]
    assert "the result of track('<lambda>') was not recorded" in caplog.text


def test_an_entry_of_the_result_that_cannot_be_looked_at_costs_no_other(tracker, records):
    result = {"accuracy": 0.9, "weights": Shapeless(), "proxy": Proxy()}

    assert tracker.track(log_return="all")(lambda: result)() is result

    assert records()[0].last_metrics == {"accuracy": 0.9}


def test_a_run_whose_inputs_raise_has_failed(tmp_path):
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", on_error="raise")
    with pytest.raises(Exception, match="no shape yet"):
        tracker.track(lambda weights: weights)(Shapeless())

    assert mlobs.current_run() is None
    assert mlobs.runs(store=tmp_path / "store")["status"].tolist() == ["FAILED"]


def test_wrong_arguments_fail_as_without_tracking(tracker, records):
    @tracker.track
    def train(data, lr=0.1):
        return data, lr

    for call in (lambda: train(1, 2, 3), lambda: train(1, rate=3)):
        with pytest.raises(TypeError):
            call()
    assert records() == []
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'data'"):
        train(lr=0.2)


def test_a_call_inside_a_run_is_its_child(tracker, records):
    @tracker.track
    def inner(run):
        return run.parent_id

    @tracker.track
    def outer():
        return inner(), mlobs.current_run().id

    parent_id, outer_id = outer()
    assert parent_id == outer_id
    with tracker.start_run("given") as given, tracker.start_run("current"):
        assert inner(run=given) == given.id

    assert [record.name for record in records()] == ["outer", "inner", "given", "current", "inner"]


@pytest.mark.parametrize(
    "function",
    [
        lambda data, run: (data, run),
        lambda run, data: (data, run),
        lambda run, /, data: (data, run),
        lambda *, run, data: (data, run),
        lambda data, run=None: (data, run),
        lambda data, *, run=None, **_more: (data, run),
    ],
)
def test_a_parameter_named_run_receives_the_run_wherever_it_stands(tracker, function):
    data, run = tracker.track(function)(data=3)

    assert (data, run.status) == (3, "FINISHED")


def test_somebodys_own_value_for_run_stays_theirs(tracker, records):
    @tracker.track
    def train(run="default"):
        return run

    assert train() == "default"
    assert train("mine") == "mine"
    assert [record.params for record in records()] == [{"run": "default"}, {"run": "mine"}]


def test_methods_and_static_methods_leave_their_owner_out(tracker, records):
    class Trainer:
        @tracker.track
        def fit(self, lr):
            return self, lr

        @classmethod
        @tracker.track
        def make(cls, lr):
            return cls, lr

    trainer = Trainer()
    assert trainer.fit(0.1) == (trainer, 0.1)
    assert Trainer.make(0.2) == (Trainer, 0.2)
    assert [record.params for record in records()] == [{"lr": 0.1}, {"lr": 0.2}]


def test_a_coroutine_is_a_run_while_it_runs(tracker, records):
    @tracker.track
    async def train(number, run):
        for step in range(3):
            await asyncio.sleep(0)
            mlobs.log_metric("loss", float(number), step=step)
            assert mlobs.current_run() is run
        if number == 2:
            raise ValueError("two")
        return {"final": number}

    async def all_of_them():
        return await asyncio.gather(*(train(number) for number in range(4)), return_exceptions=True)

    results = asyncio.run(all_of_them())

    assert inspect.iscoroutinefunction(train)
    assert results[3] == {"final": 3}
    assert isinstance(results[2], ValueError)
    by_number = {record.params["number"]: record for record in records()}
    assert [by_number[number].status for number in range(4)] == ["FINISHED", "FINISHED", "FAILED", "FINISHED"]
    assert by_number[3].last_metrics == {"loss": 3.0, "final": 3.0}


def test_a_cancelled_coroutine_is_killed(tracker, records):
    @tracker.track
    async def train():
        await asyncio.sleep(60)

    async def cancelled():
        task = asyncio.create_task(train())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())

    assert (records()[0].status, records()[0].reason) == ("KILLED", "CancelledError")


def test_a_generator_is_a_run_that_is_current_only_while_its_own_code_runs(tracker, records):
    @tracker.track
    def train(epochs, run):
        received = []
        for epoch in range(epochs):
            assert mlobs.current_run() is run
            mlobs.log_metric("loss", float(epoch), step=epoch)
            received.append((yield epoch))
        return {"last": epochs, "received": len(received)}

    assert inspect.isgeneratorfunction(train)
    with tracker.start_run("outer") as outer:
        one, other = train(2), train(3)
        assert isinstance(one, types.GeneratorType)
        assert [next(one), next(other), one.send("x")] == [0, 0, 1]
        assert mlobs.current_run() is outer
        with pytest.raises(StopIteration) as stop:
            next(one)
        assert stop.value.value == {"last": 2, "received": 2}
        assert list(other) == [1, 2]
        assert mlobs.current_run() is outer

    _, first, second = records()
    assert first.last_metrics == {"loss": 1.0, "last": 2.0, "received": 2.0}
    assert second.last_metrics == {"loss": 2.0, "last": 3.0, "received": 3.0}
    assert first.parent_run_id == second.parent_run_id == outer.id


def test_a_generator_that_is_closed_has_finished(tracker, records):
    closed = []

    @tracker.track
    def train():
        try:
            yield 1
            yield 2
        finally:
            closed.append(mlobs.current_run())

    generator = train()
    next(generator)
    generator.close()
    for _ in train():
        break  # the generator is closed when nobody holds it

    assert [record.status for record in records()] == ["FINISHED", "FINISHED"]
    assert all(closed)
    assert mlobs.current_run() is None


def test_an_exception_reaches_a_generator_and_passes_out_of_it(tracker, records):
    @tracker.track
    def train(*, catches):
        try:
            yield 1
        except KeyError:
            if not catches:
                raise
        yield 2

    generator = train(catches=True)
    next(generator)
    assert generator.throw(KeyError("k")) == 2
    assert list(generator) == []
    generator = train(catches=False)
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError("k"))

    assert [record.status for record in records()] == ["FINISHED", "FAILED"]


def test_an_async_generator_is_a_run_that_is_current_only_while_its_own_code_runs(tracker, records):
    closed = []

    @tracker.track
    async def train(epochs, run):
        try:
            for epoch in range(epochs):
                await asyncio.sleep(0)
                assert mlobs.current_run() is run
                mlobs.log_metric("loss", float(epoch))
                if epoch == 2:
                    raise ValueError("two")
                assert (yield epoch) == (None if epoch else "sent")
        finally:
            closed.append(mlobs.current_run() is run)

    async def use():
        generator = train(2)
        assert [await generator.asend(None), await generator.asend("sent")] == [0, 1]
        assert mlobs.current_run() is outer
        assert [item async for item in generator] == []
        generator = train(2)
        await generator.asend(None)
        await generator.aclose()
        generator = train(3)
        await generator.asend(None)
        await generator.asend("sent")
        with pytest.raises(ValueError, match="two"):
            await generator.asend(None)

    with tracker.start_run() as outer:
        asyncio.run(use())

    assert inspect.isasyncgenfunction(train)
    assert [record.status for record in records()[1:]] == ["FINISHED", "FINISHED", "FAILED"]
    assert closed == [True] * 3


def test_an_async_generator_that_is_dropped_ends_its_run(tracker, records):
    @tracker.track
    async def train():
        yield 1
        yield 2

    async def use():
        async for _ in train():
            break
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(use())

    assert records()[0].status == "FINISHED"


def test_a_coroutine_that_is_closed_has_finished(tracker, records):
    @tracker.track
    async def train():
        await asyncio.Future()

    async def use():
        coroutine = train()
        coroutine.send(None)
        coroutine.close()

    asyncio.run(use())

    assert records()[0].status == "FINISHED"


@pytest.mark.parametrize("times", [1, 20])
def test_with_delivery_by_threads_the_end_of_the_loop_waits(tmp_path, times):
    backend = MemoryBackend()
    tracker = mlobs.Tracker("unit", store=tmp_path / "store", backends=[backend], delivery="thread")

    @tracker.track
    async def train(run):
        mlobs.log_metric("loss", 0.5)
        return run

    async def all_of_them():
        return await asyncio.gather(*(train() for _ in range(times)))

    runs = asyncio.run(all_of_them())

    assert all(run.delivery()["memory"].is_settled for run in runs)
    assert len(backend.held) == times


def test_the_module_level_decorator_uses_the_settings_of_the_moment(tmp_path, monkeypatch):
    @mlobs.track(experiment="churn")
    def train(lr):
        return {"loss": lr}

    for store in ("one", "two"):
        monkeypatch.setenv("MLOBS_STORE", str(tmp_path / store))
        train(0.5)

    for store in ("one", "two"):
        frame = mlobs.runs(store=tmp_path / store)
        assert frame["experiment"].tolist() == ["churn"]
        assert frame["metrics.loss"].tolist() == [0.5]


def test_a_wrong_setting_is_refused_before_training_starts(monkeypatch):
    monkeypatch.setenv("MLOBS_MODE", "sometimes")
    ran = []
    with pytest.raises(UsageError, match="MLOBS_MODE"):
        mlobs.track(lambda: ran.append(1))()
    assert not ran


def test_a_name_in_the_place_of_the_function_is_refused_with_what_to_type(tracker):
    for track in (tracker.track, mlobs.track):
        with pytest.raises(UsageError, match=r"got 'baseline'.*name="):
            track("baseline")
