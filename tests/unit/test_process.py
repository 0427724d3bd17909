"""Whether a writer still lives is only said where it can be known."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mlobs.journal.process import is_alive, this_process

HERE = this_process()
BOOT, NAMESPACE, MACHINE = HERE.boot_id.split("/")


def other(**changes):
    return msgspec.structs.replace(HERE, **changes)


@pytest.mark.parametrize(
    ("process", "lives"),
    [
        (HERE, True),
        (other(host="renamed-meanwhile"), True),
        (other(started=HERE.started + 1), False),  # the pid is another process's by now
        (other(boot_id=f"{BOOT}/1/{MACHINE}"), None),  # another container of this machine
        (other(boot_id=f"earlier/{NAMESPACE}/0123456789ab"), None),  # another machine of this name
        (other(boot_id=f"earlier/{NAMESPACE}/"), None),
        (other(host="another", boot_id="earlier/1/0123456789ab"), None),
    ],
)
def test_alive_or_not_or_unknown(process, lives):
    assert is_alive(process) is lives


def test_a_machine_that_was_started_anew_has_no_old_processes():
    here = other(boot_id="now/1/0123456789ab")

    assert is_alive(other(boot_id="before/1/0123456789ab"), here=here) is False


def test_a_process_that_ended_and_was_not_waited_for_is_dead():
    child = subprocess.Popen(
        [sys.executable, "-c", "print('started', flush=True); input()"], stdin=-1, stdout=-1
    )
    child.stdout.readline()
    stat = Path(f"/proc/{child.pid}/stat").read_text()
    started = int(stat.rpartition(")")[2].split()[19])
    process = other(pid=child.pid, started=started)
    assert is_alive(process) is True

    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert is_alive(process) is False
    child.wait()
    child.stdout.close()
