"""What `mlobs rm` and `mlobs gc` promise: what goes, what stays, and what is asked before."""

import json
import os
import threading
import time

import pytest
from recorded import open_run, record_run
from typer.testing import CliRunner

import mlobs
from mlobs.cli.app import app
from mlobs.delivery.claim import Claim
from mlobs.delivery.report import report
from mlobs.delivery.start import find_start
from mlobs.delivery.state import Doubted, LaneChanged, StateWriter
from mlobs.events import BackendSpec, Dataset, Metrics
from mlobs.journal.blobs import link_file
from mlobs.journal.reader import Reader
from mlobs.journal.store import Store
from mlobs.read.record import liveness, read_run
from mlobs.repro import capture
from mlobs.repro.registry import register, versions
from mlobs.sender.foreground import sync
from mlobs.upkeep import garbage, removal

RUNNER = CliRunner()
HOUR_S = 3600.0


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLOBS_")]:
        monkeypatch.delenv(name)
    made = Store(tmp_path / ".mlobs")
    made.create()
    return made


def mlobs_(*arguments, code=0, answer=None):
    result = RUNNER.invoke(app, list(arguments), input=answer)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def ids(store):
    return [folder.run_id for folder in store.runs()]


def age(path, seconds=2 * HOUR_S):
    then = time.time() - seconds
    os.utime(path, (then, then))


def keep(store, name, content=b"code"):
    """A snapshot as the sender keeps it; an old one."""
    store.snapshots.mkdir(exist_ok=True)
    path = store.snapshots / name
    path.write_bytes(content)
    age(path)
    return path


def gc(*arguments):
    return json.loads(mlobs_("gc", "--json", *arguments).stdout)


def kinds(document):
    return sorted(one["kind"] for one in document["files"])


def test_a_run_goes_with_its_child_runs_and_the_others_stay(store):
    parent = record_run(store, name="parent", at=1000.0)
    child = record_run(store, name="child", at=1001.0, parent_run_id=parent.run_id)
    record_run(store, name="grandchild", at=1002.0, parent_run_id=child.run_id)
    other = record_run(store, name="other", at=1003.0)

    shown = mlobs_("rm", parent.run_id, "--yes").output

    assert ids(store) == [other.run_id]
    assert "removed 3 runs" in shown


def test_nothing_goes_without_a_yes(store):
    run = record_run(store)

    assert "Remove 1 run" in mlobs_("rm", run.run_id, answer="n\n", code=2).output
    assert "--yes" in mlobs_("rm", run.run_id, answer="", code=2).output
    assert "--yes" in mlobs_("rm", run.run_id, "--json", code=2).output
    assert ids(store) == [run.run_id]

    mlobs_("rm", run.run_id, answer="y\n")
    assert ids(store) == []


def test_a_question_names_each_run_that_would_go(store):
    parent = record_run(store, name="the-parent", at=1000.0)
    record_run(store, name="the-child", at=1001.0, parent_run_id=parent.run_id)

    asked = mlobs_("rm", parent.run_id, answer="n\n", code=2).output

    assert "the-parent" in asked
    assert "the-child" in asked


def test_a_running_run_stays_unless_it_is_forced(store):
    folder, writer = open_run(store)

    refused = mlobs_("rm", folder.run_id, "--yes", code=2).output
    assert "it is running" in refused
    assert "--force" in refused
    assert ids(store) == [folder.run_id]

    mlobs_("rm", folder.run_id, "--yes", "--force")
    assert ids(store) == []
    writer.append(Metrics(2000.0, 1, {"loss": 0.5}))  # the training goes on, unharmed
    writer.close()


def test_a_running_child_run_keeps_its_parent(store):
    parent = record_run(store, at=1000.0)
    child, writer = open_run(store, at=1001.0, parent_run_id=parent.run_id)

    assert child.run_id in mlobs_("rm", parent.run_id, "--yes", code=2).output
    assert len(ids(store)) == 2
    writer.close()


def test_a_run_that_is_being_delivered_stays_unless_it_is_forced(store):
    run = record_run(store)
    claim = Claim(run.delivery)
    assert claim.acquire()

    assert f"pid {os.getpid()}" in mlobs_("rm", run.run_id, "--yes", code=2).output

    claim.release()
    mlobs_("rm", run.run_id, "--yes")
    assert ids(store) == []


def test_what_a_backend_holds_stays_there_and_that_is_said(store, tmp_path):
    run = record_run(store, Metrics(1.0, 0, {"loss": 0.5}))
    sync([run], only=["tensorboard"])
    files = sorted(path for path in (tmp_path / "runs").rglob("*") if path.is_file())
    assert files

    shown = mlobs_("rm", run.run_id, "--yes").output

    assert "what tensorboard had of it stays there" in shown
    assert sorted(path for path in (tmp_path / "runs").rglob("*") if path.is_file()) == files


def test_what_was_not_sent_yet_is_named_before_the_answer(store):
    spec = BackendSpec("mlflow", "mlobs.backends.mlflow:MLflow", {"tracking_uri": "http://127.0.0.1:9"})
    run = record_run(store, backends=(spec,))

    assert "mlflow" in mlobs_("rm", run.run_id, answer="n\n", code=2).output


def test_a_removal_that_was_broken_off_shows_no_run_and_is_swept_up(store, monkeypatch):
    run = record_run(store)

    def break_off(_path):
        raise KeyboardInterrupt

    monkeypatch.setattr(removal.shutil, "rmtree", break_off)
    with pytest.raises(KeyboardInterrupt):
        removal.remove(removal.candidates(store, [run])[0])
    monkeypatch.undo()
    (left,) = (store.path / "runs").glob(".removed-*")

    assert ids(store) == []
    assert gc(f"--store={store.path}")["files"] == []  # it is young
    age(left)
    assert kinds(gc("--yes", f"--store={store.path}")) == ["removed run"]
    assert not left.exists()


def test_gc_deletes_nothing_unless_it_is_told_to(store):
    kept = keep(store, "a.pack")

    shown = mlobs_("gc").output

    assert "type --yes" in shown
    assert kept.exists()
    assert kinds(gc()) == ["snapshot"]
    mlobs_("gc", "--yes")
    assert not kept.exists()
    assert "nothing" in mlobs_("gc").output


def test_a_snapshot_stays_as_long_as_a_run_links_to_it(store):
    shared, lonely = keep(store, "shared.pack"), keep(store, "lonely.pack")
    run = record_run(store)
    link_file(run.path / "blobs" / "w-0", shared)
    age(shared)

    assert [one["path"] for one in gc("--yes")["files"]] == [str(lonely)]
    assert shared.exists()

    mlobs_("rm", run.run_id, "--yes")
    assert [one["path"] for one in gc("--yes")["files"]] == [str(shared)]


def test_what_a_run_is_about_to_link_to_is_young_again(store):
    kept = keep(store, "a.pack")

    capture._kept(kept, b"code")

    assert gc("--yes")["files"] == []
    assert kept.exists()


def test_what_is_young_or_linked_meanwhile_is_not_deleted(store):
    linked, touched = keep(store, "linked.pack"), keep(store, "touched.pack")
    found = garbage.find_garbage(store, time.time())
    assert len(found.garbage) == 2

    link_file(record_run(store).path / "blobs" / "w-0", linked)
    os.utime(touched)

    assert garbage.delete(found.garbage, time.time()) == []
    assert linked.exists()
    assert touched.exists()


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="permissions do not bind root")
def test_another_users_run_keeps_the_versions_of_datasets(store):
    run = record_run(store)
    register(store, run.run_id, Dataset(1000.0, "a", "1", "b3:" + "1" * 64, "content"), {})
    for path in store.datasets.rglob("*"):
        age(path)
    run.path.chmod(0)
    try:
        found = garbage.find_garbage(store, time.time())
    finally:
        run.path.chmod(0o700)
    assert found == garbage.Found((), (f"versions of datasets all stay: {run.path} may not be read",))


def test_broken_off_captures_are_swept_up(store):
    keep(store, ".a.pack.123-abcd")
    scratch = store.snapshots / ".capturing-xyz"
    scratch.mkdir()
    (scratch / "index").write_bytes(b"12345")
    age(scratch)

    assert kinds(gc("--yes")) == ["unfinished", "unfinished"]
    assert list(store.snapshots.iterdir()) == []


def dataset(version, content, at=1000.0):
    return Dataset(at, "train", version, f"mlobs:afp1:{content}", "content")


def test_a_version_of_a_dataset_stays_while_a_run_uses_it(store):
    used, unused = dataset("v1", "aa"), dataset("v2", "bb")
    record_run(store, used)
    for event in (used, unused):
        register(store, "run", event, {})
    for path in store.datasets.rglob("*.json"):
        age(path)

    assert kinds(gc("--yes")) == ["dataset"]
    assert [one.version for one in versions(store)] == ["v1"]


def test_a_version_that_is_used_again_is_young_again(store):
    event = dataset("v1", "aa")
    register(store, "run", event, {})
    for path in store.datasets.rglob("*.json"):
        age(path)

    register(store, "another", event, {})

    assert gc()["files"] == []


def test_where_a_journal_is_damaged_no_version_of_a_dataset_goes(store):
    run = record_run(store, Metrics(1.0, 0, {"loss": 1.0}), Metrics(2.0, 1, {"loss": 1.0}))
    register(store, "run", dataset("v1", "aa"), {})
    for path in store.datasets.rglob("*.json"):
        age(path)
    (journal,) = run.journals()
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 0xFF
    journal.write_bytes(content)

    found = gc("--yes")

    assert found["files"] == []
    assert "cannot be read" in found["remarks"][0]
    assert versions(store)


def test_raw_content_goes_only_where_its_final_form_stands_beside_it(store):
    blobs = record_run(store).path / "blobs"
    blobs.mkdir()
    for name in ("w-0", "w-0.final", "w-1", "w-1.77-abcd", "w-2.final"):
        (blobs / name).write_bytes(b"1234")
        age(blobs / name)

    assert kinds(gc("--yes")) == ["raw content", "unfinished"]
    assert sorted(path.name for path in blobs.iterdir()) == ["w-0.final", "w-1", "w-2.final"]


def test_what_was_cached_of_a_run_goes_after_the_run(store):
    run = record_run(store)
    points = store.path / "cache" / "points"
    for name in (run.run_id, "20200101-000000-000000-abcdef"):
        (points / name).mkdir(parents=True)
        age(points / name)

    assert kinds(gc("--yes")) == ["cache"]
    assert [path.name for path in points.iterdir()] == [run.run_id]


def test_a_cache_that_was_not_written_to_its_end_is_swept_up(store):
    store.cache.mkdir()
    for name in ("runs", ".runs.1a2b3c4d"):
        (store.cache / name).write_bytes(b"some")
        age(store.cache / name)

    assert kinds(gc("--yes")) == ["cache"]
    assert [path.name for path in store.cache.iterdir()] == ["runs"]


def test_gc_goes_on_beside_somebody_who_deletes_what_it_looks_at(store):
    folder = record_run(store)
    blobs = folder.path / "blobs"
    blobs.mkdir()
    stop = threading.Event()

    def deliver():
        while not stop.is_set():
            for number in range(20):
                (blobs / f"w-{number}.tmp").write_bytes(b"some")
                (blobs / f"w-{number}.tmp").unlink()

    sender = threading.Thread(target=deliver)
    sender.start()
    try:
        found = [garbage.find_garbage(store, time.time()) for _ in range(300)]
    finally:
        stop.set()
        sender.join()

    assert not any(one.garbage for one in found)


def test_a_run_that_was_removed_after_it_was_listed_is_one_that_recorded_nothing(store):
    folder = record_run(store)
    (listed,) = store.runs()
    removal.remove(removal.candidates(store, [folder])[0])

    assert (listed.journals(), find_start(listed), read_run(listed, liveness())) == ([], None, None)
    assert removal.own_bytes(listed.path) == 0


def test_output_of_senders_goes_after_a_week(store):
    store.senders.mkdir()
    for name, days in (("old.log", 8), ("young.log", 6)):
        (store.senders / name).write_text("said")
        age(store.senders / name, days * 86400.0)

    assert kinds(gc("--yes")) == ["log"]
    assert [path.name for path in store.senders.iterdir()] == ["young.log"]


def test_what_is_counted_is_what_the_disk_gets_back(store):
    shared = keep(store, "shared.pack", b"x" * 10_000)
    run = record_run(store)
    link_file(run.path / "blobs" / "w-0", shared)
    journals = sum(path.stat().st_size for path in run.journals())

    (document,) = json.loads(mlobs_("rm", run.run_id, "--yes", "--json").stdout)

    assert document["size_bytes"] == journals


def test_an_event_in_doubt_is_called_what_its_author_calls_it(store):
    run = record_run(store, Metrics(1.0, 7, {"loss": 1.0, "acc": 0.5}))
    (journal,) = run.journals()
    with Reader(journal) as reader:
        (offset,) = [start for start, _, event in reader.events() if isinstance(event, Metrics)]
    key = f"{journal.stem}:{offset}"
    run.delivery.mkdir()
    writer = StateWriter(run.delivery, "sender")
    writer.append(Doubted(2.0, "mlflow", key, 1.0, 1))
    reason = f"the backend takes other events, but not {key}: HTTP 500"
    writer.append(LaneChanged(2.0, "mlflow", "backing off", reason))

    said = "the backend takes other events, but not metrics loss, acc of step 7: HTTP 500"
    assert report(run)["mlflow"].trouble == said
    assert said in mlobs_("show", run.run_id).output


def test_a_misspelt_argument_of_the_tracker_is_answered_with_the_right_one(store):
    with pytest.raises(mlobs.UsageError, match=r"did you mean backends= \?"):
        mlobs.Tracker("churn", backend=["mlflow"], store=store.path)
    with pytest.raises(mlobs.UsageError, match="it takes experiment, backends"):
        mlobs.Tracker("churn", colour="red", store=store.path)


@pytest.mark.parametrize("wrong", [3, 0, True, ["http://host"]])
def test_an_address_that_is_no_text_is_said_to_be_none(wrong):
    with pytest.raises(mlobs.UsageError, match="not a text - type 'http://host:5000'"):
        mlobs.backends.MLflow(tracking_uri=wrong)
    with pytest.raises(mlobs.UsageError, match="expected a folder - type logdir='runs'"):
        mlobs.backends.TensorBoard(logdir=wrong)


def test_a_path_is_as_good_as_a_text(tmp_path):
    assert mlobs.backends.TensorBoard(logdir=tmp_path / "logs").logdir == str(tmp_path / "logs")
