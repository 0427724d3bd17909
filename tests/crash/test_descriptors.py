"""A program that closes descriptors, or began without some, harms neither its record nor its own files."""

import os
import subprocess
import sys

import pytest
from programs import environment, only_run, run, write

import mlobs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell that closes descriptors")

WITHOUT_OUTPUT = """
import contextlib, os
import mlobs

tracker = mlobs.Tracker("closed", store="store", backends=["tensorboard"])
with tracker.start_run() as run:
    for step in range(10_000):  # more than two segments
        run.log_metric("loss", float(step), step=step)
        with contextlib.suppress(OSError):
            os.write(STANDARD, b"a C library's warning ")
"""


@pytest.mark.parametrize(
    ("closing", "number"), [("2>&-", 2), ("1>&-", 1), ("0<&- 2>&-", 2), ("0<&- 1>&- 2>&-", 2)]
)
def test_a_program_without_standard_output_writes_into_no_file_of_ours(tmp_path, closing, number):
    path = write(tmp_path, WITHOUT_OUTPUT.replace("STANDARD", str(number)))
    command = ["sh", "-c", f'exec "$0" "$1" {closing}', sys.executable, str(path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), check=False, timeout=60)

    assert done.returncode == 0
    record = only_run(tmp_path)
    assert (record.status, record.damage) == ("FINISHED", ())
    values = mlobs.metrics(store=tmp_path / "store")["value"].tolist()
    assert values == [float(step) for step in range(10_000)]
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file() and _has_warning(path)]


CLOSING = """
import os
import mlobs

tracker = mlobs.Tracker("closing", store="store", backends=["tensorboard"])
run = tracker.start_run()
run.log_metric("loss", 0.0, step=0)
os.closerange(3, 256)  # as programs do that go to the background
own = [open(f"own-{number}", "w") for number in range(20)]
for file in own:
    file.write("x" * 1_000_000)
    file.flush()
for step in range(1, 10_000):
    run.log_metric("loss", float(step), step=step)
run.finish()
for file in own:
    file.write("y" * 1_000)  # it is written out at the very end
"""


def test_files_that_take_the_numbers_of_closed_descriptors_stay_whole(tmp_path):
    done = run(tmp_path, CLOSING)

    assert (done.returncode, done.stderr) == (0, "")
    for number in range(20):
        assert (tmp_path / f"own-{number}").read_text() == "x" * 1_000_000 + "y" * 1_000
    record = only_run(tmp_path)
    assert (record.status, record.damage) == ("FINISHED", ())
    values = mlobs.metrics(store=tmp_path / "store")["value"].tolist()
    assert values == [float(step) for step in range(10_000)]


def _has_warning(path):
    return b"a C library's warning" in path.read_bytes()
