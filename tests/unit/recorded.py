"""Stores for the tests of reading, made by the real writer."""

import subprocess
import sys
from pathlib import Path

from mlobs.events import Process, RunFinished, RunStarted
from mlobs.journal.files import open_file
from mlobs.journal.format import FORMAT, Header, encode, frame
from mlobs.journal.process import this_process
from mlobs.journal.store import RunFolder, Store, new_run_id
from mlobs.journal.writer import Writer

ELSEWHERE = Process(host="a-host-that-is-not-this-one", pid=1, boot_id="another/1", started=1)


def start_of(run_id, at=1000.0, process=None, **facts):
    facts = {"experiment": "churn", "name": "baseline"} | facts
    return RunStarted(at=at, run_id=run_id, process=process or this_process(), **facts)


def open_run(store: Store, *events, at=1000.0, run_id=None, **facts):
    """Begin a run in this process and record events; it stays open."""
    store.create()
    run_id = run_id or new_run_id(at)
    folder = store.new_run(run_id)
    writer = Writer(folder.path, run_id, is_opener=True)
    for event in (start_of(run_id, at, **facts), *events):
        writer.append(event)
    return folder, writer


def record_run(store: Store, *events, status="FINISHED", at=1000.0, **facts) -> RunFolder:
    """Record a whole run."""
    folder, writer = open_run(store, *events, RunFinished(at=at + 60, status=status), at=at, **facts)
    writer.close()
    return folder


def add_writer(folder: RunFolder, *events) -> Writer:
    """Let another writer (a rank, a sender) record events of a run."""
    writer = Writer(folder.path, folder.run_id)
    for event in events:
        writer.append(event)
    writer.close()
    return writer


def write_as(folder: RunFolder, process: Process, *events, is_opener=False, at=1000.0) -> Path:
    """Write the journal that a process of another host would have written."""
    path = folder.path / f"{process.host}-{process.pid}-{len(folder.journals())}.journal"
    file = open_file(path, mapped=False)
    header = Header(FORMAT, folder.run_id, path.stem, process, at, is_opener)
    for body in (header, *events):
        file.append(frame(encode(body)))
    file.close()
    return path


_VANISHING = """
import json, os, sys, time
from pathlib import Path
from mlobs.events import Metrics, RunStarted
from mlobs.journal.process import this_process
from mlobs.journal.store import Store
from mlobs.journal.writer import Writer
store, run_id, at = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
folder = Store(store).new_run(run_id)
writer = Writer(folder.path, run_id, is_opener=True)
writer.append(RunStarted(at, run_id, "churn", "vanishing", this_process()))
writer.append(Metrics(at + 5, 0, {"loss": 1.0}))
os._exit(9)
"""


def vanished_run(store: Store, at=1000.0) -> RunFolder:
    """Record a run in a process of its own, which then disappears without a word."""
    store.create()
    run_id = new_run_id(at)
    subprocess.run(
        [sys.executable, "-c", _VANISHING, str(store.path), run_id, str(at)], check=False, timeout=30
    )
    return store.run(run_id)


def flip(path: Path, offset: int) -> None:
    """Damage one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)
