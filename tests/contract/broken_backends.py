"""Backends that each break one rule: the contract suite has to find every one of them."""

from __future__ import annotations

import dataclasses
import math
import struct
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from mlobs.backend import Batch, Capabilities, Entry, Receipt
from mlobs.errors import Unavailable
from mlobs.events import Artifact, Histogram, Log, Metrics, Params, RunFinished
from mlobs.testing import BackendContract, MemoryBackend


def with_entries(batch: Batch, entries) -> Batch:
    return dataclasses.replace(batch, entries=tuple(entries))


def with_events(batch: Batch, change) -> Batch:
    """The batch with each event changed; None leaves it out."""
    changed = [Entry(entry.key, change(entry.event)) for entry in batch.entries]
    return with_entries(batch, [entry for entry in changed if entry.event is not None])


def with_kind(batch: Batch, kind, change) -> Batch:
    """The batch with the events of a kind changed."""
    return with_events(batch, lambda event: change(event) if isinstance(event, kind) else event)


def with_values(batch: Batch, change) -> Batch:
    """The batch with the values of metrics changed."""
    return with_kind(batch, Metrics, lambda event: replace(event, values=change(event.values)))


@dataclass
class DropsNaN(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(
            with_values(batch, lambda values: {n: v for n, v in values.items() if not math.isnan(v)})
        )


@dataclass
class StoresAgain(MemoryBackend):
    once: tuple[type, ...] = ()

    def deliver(self, batch):
        def key(entry):
            return entry.key if isinstance(entry.event, self.once) else uuid.uuid4().hex

        return super().deliver(with_entries(batch, [Entry(key(one), one.event) for one in batch.entries]))


@dataclass
class MixesRuns(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(dataclasses.replace(batch, run=replace(batch.run, run_id="the-one")))


@dataclass
class Reorders(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_entries(batch, reversed(batch.entries)))


@dataclass
class TruncatesNames(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(
            with_values(batch, lambda values: {name[:100]: value for name, value in values.items()})
        )


@dataclass
class LosesTheLast(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_entries(batch, batch.entries[:-1]))


@dataclass
class ForgetsTheEnd(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_kind(batch, RunFinished, lambda _: None))


@dataclass
class ForgetsLateParams(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(batch if batch.ref is None else with_kind(batch, Params, lambda _: None))


@dataclass
class CountsSteps(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(
            with_kind(batch, Metrics, lambda event: replace(event, step=max(event.step, 0)))
        )


@dataclass
class RoundsSilently(MemoryBackend):
    def deliver(self, batch):
        def rounded(values):
            return {name: struct.unpack("f", struct.pack("f", value))[0] for name, value in values.items()}

        return super().deliver(with_values(batch, rounded))


@dataclass
class CutsContent(MemoryBackend):
    def deliver(self, batch):
        receipt = super().deliver(batch)
        self.content = {key: content[:1000] for key, content in self.content.items()}
        return receipt


@dataclass
class ForgetsSteppedContent(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_kind(batch, Artifact, lambda event: replace(event, step=None)))


@dataclass
class MakesARunForEachProcess(MemoryBackend):
    def deliver(self, batch):
        run_id = batch.ref.removeprefix("memory-") if batch.ref else uuid.uuid4().hex
        return super().deliver(dataclasses.replace(batch, run=replace(batch.run, run_id=run_id)))


@dataclass
class EndsForEver(MemoryBackend):
    def deliver(self, batch):
        held = self.held.get(batch.run.run_id, {}).values()
        if any(isinstance(event, RunFinished) for event in held):
            return Receipt(f"memory-{batch.run.run_id}")
        return super().deliver(batch)


@dataclass
class RejectsWhatItTakes(MemoryBackend):
    def deliver(self, batch):
        return dataclasses.replace(super().deliver(batch), rejected={batch.entries[0].key: "no"})


@dataclass
class SwallowsErrors(MemoryBackend):
    is_down: bool = False

    def deliver(self, batch):
        return Receipt("nowhere") if self.is_down else super().deliver(batch)


@dataclass
class RaisesWhenClosed(MemoryBackend):
    def close(self):
        raise Unavailable("nothing was opened")


@dataclass
class WritesWhenMade:
    """Not a `MemoryBackend`: one with plain fields, which travels."""

    name: str = "writes"
    capabilities = Capabilities()

    def __post_init__(self):
        Path(tempfile.gettempdir(), "mlobs-broken-backend").write_text("made")

    def deliver(self, batch):
        return Receipt(batch.run.run_id)

    def close(self):
        pass


@dataclass
class HidesAParameter(WritesWhenMade):
    def __post_init__(self):
        self.name = f"{self.name}x"


@dataclass
class DatesByItsOwnClock(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_events(batch, lambda event: replace(event, at=time.time())))


@dataclass
class DropsLabels(MemoryBackend):
    def deliver(self, batch):
        labelled = (Metrics, Log, Artifact, Histogram)
        return super().deliver(with_kind(batch, labelled, lambda event: replace(event, meta=None)))


@dataclass
class ZeroesEdges(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(
            with_kind(batch, Histogram, lambda event: replace(event, edges=[0.0] * len(event.edges)))
        )


@dataclass
class KeepsTheMessageAlone(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_kind(batch, Log, lambda event: Log(event.at, event.message)))


@dataclass
class IgnoresConflicts(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(with_kind(batch, Params, lambda event: replace(event, conflict=None)))


@dataclass
class TakesArtifactsForText(MemoryBackend):
    def deliver(self, batch):
        return super().deliver(
            with_kind(batch, Artifact, lambda event: replace(event, role="text", media_type="text/plain"))
        )


@dataclass
class DoublesAllButMetrics(StoresAgain):
    once: tuple[type, ...] = (Metrics,)


LOGS = Capabilities(kinds=frozenset({"log"}))


@dataclass
class MixesLogsOfRuns(MixesRuns):
    capabilities: Capabilities = LOGS


@dataclass
class StoresLogsAgain(StoresAgain):
    capabilities: Capabilities = LOGS


BROKEN = {
    DropsNaN: "test_nan_and_infinities_are_kept_as_declared",
    StoresAgain: "test_a_repeated_batch_is_stored_once",
    MixesRuns: "test_runs_are_not_mixed",
    Reorders: "test_points_keep_their_order",
    TruncatesNames: "test_names_stay_apart",
    LosesTheLast: "test_the_end_arrives_though_it_comes_last",
    ForgetsTheEnd: "test_the_end_arrives_though_it_comes_last",
    ForgetsLateParams: "test_params_arrive",
    CountsSteps: "test_metrics_arrive_with_value_and_step",
    RoundsSilently: "test_metrics_arrive_with_value_and_step",
    CutsContent: "test_content_arrives_to_the_last_byte",
    ForgetsSteppedContent: "test_content_arrives_to_the_last_byte",
    MakesARunForEachProcess: "test_the_first_answer_may_be_lost_with_the_process",
    EndsForEver: "test_a_run_may_go_on_after_its_end",
    RejectsWhatItTakes: "test_metrics_arrive_with_value_and_step",
    SwallowsErrors: "test_what_cannot_be_delivered_is_said",
    RaisesWhenClosed: "test_it_may_be_closed_before_anything_was_delivered_and_twice",
    WritesWhenMade: "test_making_it_touches_nothing",
    HidesAParameter: "test_it_travels_to_the_sender_as_data",
    DatesByItsOwnClock: "test_an_event_arrives_whole[log]",
    DropsLabels: "test_labels_arrive_or_their_loss_is_said[metrics]",
    ZeroesEdges: "test_an_event_arrives_whole[histogram]",
    KeepsTheMessageAlone: "test_an_event_arrives_whole[log]",
    IgnoresConflicts: "test_of_two_values_of_a_param_the_right_one_counts",
    TakesArtifactsForText: "test_an_event_arrives_whole[image]",
    DoublesAllButMetrics: "test_a_repeated_batch_is_stored_once",
    MixesLogsOfRuns: "test_runs_are_not_mixed",
    StoresLogsAgain: "test_a_repeated_batch_is_stored_once",
}


def contract_of(cls):
    """The contract suite over a backend of this class."""

    class Contract(BackendContract):
        @pytest.fixture
        def backend(self):
            return cls()

        @pytest.fixture
        def unreachable(self):
            return cls(is_down=True) if cls is SwallowsErrors else None

        def restarted(self, backend):
            return backend  # what it holds is in this process

    return Contract


for _cls in BROKEN:
    globals()[f"Test{_cls.__name__}"] = contract_of(_cls)
