"""Launching a program: its environment is fixed before it begins, its end is its own."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from mlobs.errors import UsageError
from mlobs.repro.launch import launch, launch_environment

LAUNCHER = "import os, sys\nfrom mlobs.repro.launch import launch\nsys.exit(launch(sys.argv[1:], os.environ))"
PATIENT = """
import signal, sys
def leave(number, frame):
    print("got", number, flush=True)
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, leave)
print("ready", flush=True)
signal.pause()
"""
COUNTING = """
import signal, sys
counted = []
def count(number, frame):
    counted.append(number)
    print("got", number, flush=True)
signal.signal(signal.SIGINT, count)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(len(counted)))
print("ready", flush=True)
while True:
    signal.pause()
"""
OF_TERMINAL = "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + LAUNCHER
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")


def launched(program):
    """A launcher in a session of its own, as a scheduler starts it, with a program that waits."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_seed_fixes_what_only_a_start_can_fix():
    env = launch_environment({"PATH": "/bin", "PYTHONHASHSEED": "random"}, 7)

    assert env == {
        "PATH": "/bin",
        "PYTHONHASHSEED": "7",
        "MLOBS_SEED": "7",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def test_a_choice_for_cublas_stays():
    env = launch_environment({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, 7)

    assert env["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_without_a_seed_nothing_changes():
    given = {"PATH": "/bin"}

    env = launch_environment(given, None)

    assert env == given
    assert env is not given


def test_a_seed_that_is_none_is_refused():
    with pytest.raises(UsageError, match="seed is -1"):
        launch_environment({}, -1)


def test_two_programs_with_one_seed_hash_alike():
    program = [sys.executable, "-c", "import sys; sys.exit(hash('a') % 100)"]

    codes = {launch(program, launch_environment(os.environ, 7)) for _ in range(3)}

    assert len(codes) == 1


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_programs(code):
    assert launch([sys.executable, "-c", f"import sys; sys.exit({code})"], os.environ) == code


@POSIX
def test_a_program_that_a_signal_ended_has_the_code_of_a_shell():
    program = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]

    assert launch(program, os.environ) == 128 + 9


@POSIX
@pytest.mark.parametrize("number", [15, 2])
def test_a_signal_reaches_the_program_which_ends_as_it_likes(number):
    with launched(PATIENT) as process:
        assert process.stdout.readline() == "ready\n"

        process.send_signal(number)

        assert process.stdout.readline() == f"got {number}\n"
        assert process.wait(timeout=20) == 7


@POSIX
def test_ctrl_c_in_a_terminal_reaches_the_program_once():
    terminal, keyboard_of_program = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", OF_TERMINAL, sys.executable, "-c", COUNTING],
        stdin=keyboard_of_program,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"

        os.write(terminal, b"\x03")

        assert process.stdout.readline() == "got 2\n"
        process.send_signal(signal.SIGTERM)  # behind any SIGINT that the launcher would send
        assert process.wait(timeout=20) == 1
    os.close(terminal)
    os.close(keyboard_of_program)


@POSIX
def test_a_signal_that_is_ignored_stays_ignored():
    program = "import signal, sys; sys.exit(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        code = launch([sys.executable, "-c", program], os.environ)
    finally:
        signal.signal(signal.SIGHUP, before)

    assert code == 1


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    launch([sys.executable, "-c", ""], os.environ)

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_it_works_beside_the_main_thread():
    codes = []

    thread = threading.Thread(target=lambda: codes.append(launch([sys.executable, "-c", ""], os.environ)))
    thread.start()
    thread.join()

    assert codes == [0]


@pytest.mark.parametrize("command", [["/no/such/program"], []])
def test_a_command_that_cannot_start_is_refused(command):
    with pytest.raises(UsageError, match=r"cannot be started|no command"):
        launch(command, os.environ)
