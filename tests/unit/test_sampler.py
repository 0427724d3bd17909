"""The sampler in this process: which runs it takes, and when it leaves them."""

import time

import pytest
from recorded import open_run, start_of

import mlobs
from mlobs.events import Metrics, Process, RunFinished
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
from mlobs.sender.meter import Meter
from mlobs.sender.sampler import Sampler
from mlobs.sender.samples import samples_of

PATIENCE_S = 30.0


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def sampler():
    made = Sampler(this_process())
    yield made
    made.stop(PATIENCE_S)


def sampled(store, run_id):
    frame = mlobs.metrics(store=store.path, run_ids=run_id)
    return frame[frame["key"] == "system/processes"]["step"].tolist()


def await_samples(store, run_id, count):
    deadline = time.monotonic() + PATIENCE_S
    while len(found := sampled(store, run_id)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_two_runs_at_once_have_counts_of_their_own(store, sampler):
    (one, _), (two, _) = open_run(store), open_run(store)
    sampler.open(one, 0.5)
    await_samples(store, one.run_id, 2)
    sampler.open(two, 0.5)

    assert await_samples(store, two.run_id, 2)[:2] == [0, 1]
    assert await_samples(store, one.run_id, 4) == list(range(len(sampled(store, one.run_id))))


def test_a_run_that_goes_on_in_the_same_program_is_sampled_again(store, sampler):
    folder, writer = open_run(store)
    sampler.open(folder, 0.5)
    await_samples(store, folder.run_id, 1)
    writer.append(RunFinished(time.time(), "FINISHED"))
    before = len(sampled(store, folder.run_id))
    again = Writer(folder.path, folder.run_id, is_opener=True)
    again.append(start_of(folder.run_id, at=time.time(), attempt=2))
    sampler.open(folder, 0.5)

    steps = await_samples(store, folder.run_id, before + 2)
    assert steps == list(range(len(steps)))


def test_a_deleted_run_is_left_and_the_others_go_on(store, sampler):
    (gone, writer), (kept, _) = open_run(store), open_run(store)
    sampler.open(gone, 0.5)
    sampler.open(kept, 0.5)
    await_samples(store, gone.run_id, 1)
    writer.close()
    for path in gone.journals():
        path.unlink()
    before = len(sampled(store, kept.run_id))

    await_samples(store, kept.run_id, before + 3)
    assert gone.journals() == []


def test_a_run_that_another_program_opened_is_not_sampled(store):
    folder, _ = open_run(store, process=Process("another-host", 1, "another/1", 1))

    assert samples_of(folder, this_process()) is None


def test_a_run_that_is_over_is_not_sampled(store):
    folder, writer = open_run(store)
    assert samples_of(folder, this_process()) is not None
    writer.append(RunFinished(1001.0, "FINISHED"))

    assert samples_of(folder, this_process()) is None


def test_the_end_is_found_behind_what_was_read_before(store):
    folder, writer = open_run(store)
    samples = samples_of(folder, this_process())
    for step in range(1000):
        writer.append(Metrics(1001.0, step, {"loss": 1.0}))
        assert step % 250 or not samples.has_ended()
    writer.append(RunFinished(1002.0, "FINISHED"))

    assert samples.has_ended()


def test_a_program_that_is_gone_is_no_failure_but_the_end(tmp_path):
    with pytest.raises(ProcessLookupError):
        Meter(2**22 + 1, tmp_path).read()


def test_no_sample_is_earlier_than_the_attempt_that_it_is_of(store):
    """The next attempt begins behind all that was recorded, also where this host's clock is behind."""
    folder, _ = open_run(store, at=time.time() + 1000)
    samples = samples_of(folder, this_process())
    samples.add(time.time(), {"system/processes": 1.0})
    samples.close()

    record = mlobs.load_run(folder.run_id, store=store.path)
    assert record.points.ats[0] == record.start.at
