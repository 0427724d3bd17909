"""`mlobs sync` in the foreground: which runs it takes, which it leaves, and when it stops waiting."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from recorded import open_run, record_run, vanished_run

from mlobs.backend import Capabilities, Receipt
from mlobs.delivery.claim import Claim
from mlobs.errors import Unauthorized, Unavailable, UsageError
from mlobs.events import BackendSpec, Metrics
from mlobs.journal.store import Store
from mlobs.sender.foreground import sync

TYPE = f"{__name__}:Folder"
SPEC = BackendSpec("folder", TYPE, {})
HOLDING = """
import sys, time
from mlobs.delivery.claim import Claim
from mlobs.journal.store import RunFolder
from pathlib import Path
claim = Claim(RunFolder(Path(sys.argv[1])).delivery)
assert claim.acquire()
print("held", flush=True)
time.sleep(60)
"""
LINGERING = """
import sys, time
from mlobs.delivery.claim import Claim
from mlobs.journal.store import RunFolder
from pathlib import Path
claims = [Claim(RunFolder(Path(path)).delivery) for path in sys.argv[1:]]
assert all(claim.acquire() for claim in claims)
for claim in claims:
    claim.describe(is_lingering=True)
print("held", flush=True)
time.sleep(60)
"""
MANY = """
import resource, sys
from pathlib import Path
from mlobs.journal.store import Store
from mlobs.sender.foreground import sync
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
done = sync(Store(Path(sys.argv[1])).runs())
print(sum(one.is_settled for one in done))
"""


@dataclass
class Folder:
    """Counts batches by run and by parent; answers as the environment says."""

    name: str = "folder"
    capabilities = Capabilities()
    batches = []  # noqa: RUF012 - of all instances, for the test that looks

    def deliver(self, batch):
        if answer := os.environ.get(f"TEST_{self.name.upper()}"):
            raise {"down": Unavailable, "refused": Unauthorized}[answer](answer)
        self.batches.append((batch.run.run_id, batch.parent_ref))
        return Receipt(ref=f"ref-{batch.run.run_id}")

    def close(self):
        pass


@pytest.fixture(autouse=True)
def _no_batches():
    Folder.batches.clear()


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


def test_a_run_that_a_living_programs_sender_delivers_is_left_to_it(store):
    folder, writer = open_run(store, backends=(SPEC,))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder.path)], stdout=subprocess.PIPE
    ) as sender:
        sender.stdout.readline()
        (synced,) = sync([folder])
        sender.kill()
    writer.close()

    assert synced.problems == {"folder": f"its own sender (pid {sender.pid}) is delivering it right now"}
    assert not synced.is_settled
    assert not Folder.batches


def test_the_other_runs_of_a_sender_that_leaves_are_named(store):
    mine = vanished_run(store, 1000.0)
    other, settled, foreign = (record_run(store, at=at, backends=(SPEC,)) for at in (2000.0, 3000.0, 4000.0))
    sync([settled])
    paths = [str(folder.path) for folder in (mine, other, settled)]
    shown = []
    with subprocess.Popen([sys.executable, "-c", LINGERING, *paths], stdout=subprocess.PIPE) as sender:
        sender.stdout.readline()
        (synced,) = sync([mine], only=["folder"], options={"folder": {"type": TYPE}}, show=shown.append)

    assert synced.is_settled
    assert [line.split()[0] for line in shown] == [other.run_id]
    assert not Claim(foreign.delivery).holder()


def test_a_settled_run_is_not_even_claimed(store):
    folder = record_run(store, backends=(SPEC,))
    assert sync([folder])[0].is_settled
    claim = Claim(folder.delivery)
    assert claim.acquire()

    (synced,) = sync([folder])

    assert synced.is_settled
    assert synced.reports["folder"].delivered == 2
    claim.release()


def test_a_vanished_run_is_ended_though_all_that_it_recorded_was_sent(store):
    folder = vanished_run(store)
    options = {"folder": {"type": TYPE}}
    first = sync([folder], only=["folder"], options=options)
    again = sync([folder], only=["folder"], options=options)

    assert first[0].reports["folder"].delivered == 3
    assert again[0].reports["folder"].delivered == 3


def test_a_child_alone_is_sent_without_its_parent_and_at_once(store):
    parent, writer = open_run(store, backends=(SPEC,))
    child = record_run(store, at=2000.0, backends=(SPEC,), parent_run_id=parent.run_id)

    assert sync([child])[0].is_settled
    assert Folder.batches == [(child.run_id, None)] * 2
    writer.close()


def test_a_parent_goes_before_its_child_however_they_are_given(store):
    parent = record_run(store, at=1000.0, backends=(SPEC,))
    child = record_run(store, at=2000.0, backends=(SPEC,), parent_run_id=parent.run_id)

    done = sync([child, parent])

    assert [one.run_id for one in done] == [child.run_id, parent.run_id]
    assert {ref for run_id, ref in Folder.batches if run_id == child.run_id} == {f"ref-{parent.run_id}"}


def test_more_runs_than_descriptors_are_sent(store):
    for at in range(150):
        record_run(store, at=float(at + 1), backends=(SPEC,))
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(store.path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.split() == ["150"]


@pytest.mark.parametrize("answer", ["down", "refused"])
def test_what_does_not_answer_is_waited_for_once_and_delays_nobody(store, monkeypatch, answer):
    monkeypatch.setenv("TEST_OTHER", answer)
    specs = (SPEC, BackendSpec("other", TYPE, {"name": "other"}))
    folders = [record_run(store, at=float(at + 1), backends=specs) for at in range(3)]
    shown = []

    done = sync(folders, patience_s=0.2, show=shown.append)

    assert all(one.reports["folder"].is_settled and one.reports["other"].pending == 2 for one in done)
    assert len(shown) == 1


def test_a_name_that_nobody_knows_is_refused_before_anything_is_sent(store):
    folders = [record_run(store, at=float(at + 1), backends=(SPEC,)) for at in range(2)]

    with pytest.raises(UsageError, match="did you mean 'mlflow'"):
        sync(folders, only=["folder", "mflow"])
    assert not Folder.batches


def test_a_run_that_cannot_be_taken_keeps_no_other_from_being_sent(store):
    broken, whole = (record_run(store, at=at, backends=(SPEC,)) for at in (1000.0, 2000.0))
    (broken.delivery / "claim").mkdir(parents=True)

    done = sync([broken, whole])

    assert "cannot be taken" in done[0].problems["folder"]
    assert done[1].is_settled


def test_a_backend_that_cannot_be_made_is_a_problem_of_its_own(store):
    specs = (SPEC, BackendSpec("far", "no_such_module:Far", {}))
    folder = record_run(store, Metrics(1001.0, 0, {"a": 1.0}), backends=specs)

    (synced,) = sync([folder])

    assert list(synced.problems) == ["far"]
    assert synced.reports["folder"].is_settled


def test_the_command_refuses_a_misspelt_name_once(store):
    for at in range(2):
        record_run(store, at=float(at + 1), backends=(SPEC,))
    typed = [sys.executable, "-m", "mlobs", "sync", "--store", str(store.path), "--backend", "mflow"]

    done = subprocess.run(typed, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stderr.count("mflow")) == (2, 1)
