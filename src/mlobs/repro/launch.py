"""Starting a program whose environment is fixed before: `mlobs run --seed 7 -- python train.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mlobs.errors import UsageError
from mlobs.repro.seeds import CUBLAS, CUBLAS_DETERMINISTIC, HASH_SEED, SEED_VARIABLE, checked_seed

_ENDING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGBREAK")
_FORWARDED = (*_ENDING, "SIGUSR1", "SIGUSR2")
_FROM_TERMINAL = ("SIGINT", "SIGQUIT")
_SIGNALLED = 128  # a shell's exit code for a program that a signal ended is 128 + its number


def launch_environment(env: Mapping[str, str], seed: int | None) -> dict[str, str]:
    """Return the variables for a program that is to be reproducible; `env` itself is left alone.

    With a seed: PYTHONHASHSEED and MLOBS_SEED are it, whatever they were (`seed_everything()` without a
    seed takes the latter), and CUBLAS_WORKSPACE_CONFIG asks for reproducible sums unless it is set.
    Without one nothing changes.

    Raises:
        UsageError: the seed is no integer from 0 to 4294967295.
    """
    if seed is None:
        return dict(env)
    fixed = {HASH_SEED: str(checked_seed(seed)), SEED_VARIABLE: str(seed)}
    return {CUBLAS: CUBLAS_DETERMINISTIC, **env, **fixed}


def launch(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command to its end and return its exit code, 128 + n if signal n ended it.

    Signals that ask this process to end go on to the program, and this one waits for it. Ctrl-C in a
    terminal reaches the program by itself, so it is not sent twice. Elsewhere than in the main thread
    nothing is forwarded: Python lets nobody else install a handler.

    Raises:
        UsageError: there is no command, or it cannot be started.
    """
    if not command:
        raise UsageError("there is no command to run - type: mlobs run --seed 7 -- python train.py")
    with forwarding() as forward:
        try:
            child = subprocess.Popen(list(command), env=dict(env))  # noqa: S603 - the user typed it
        except OSError as error:
            raise UsageError(f"{command[0]!r} cannot be started: {error.strerror or error}") from error
        forward.to(child)
        code = child.wait()
    return _SIGNALLED - code if code < 0 else code


class Forward:
    """Sends signals on; those that come before the program runs wait for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._ending: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Pass a signal on, as its handler."""
        if signal.Signals(number).name in _ENDING:
            self._ending = number
        if signal.Signals(number).name in _FROM_TERMINAL and _is_in_front():
            return
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)  # does nothing to one that has ended

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """Send them to this program."""
        self._child = child
        for number in self._early:
            child.send_signal(number)

    def obey(self) -> None:
        """Behind `forwarding`: do as this process was asked to while the program ran, such as to end."""
        if self._ending is not None:
            signal.raise_signal(self._ending)


@contextmanager
def forwarding() -> Iterator[Forward]:
    """Pass on what this process is signalled meanwhile; elsewhere than in the main thread, nothing."""
    forward = Forward()
    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    earlier: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]  # nohup
        earlier = {number: signal.signal(number, forward) for number in numbers if number not in ignored}
    try:
        yield forward
    finally:
        for number, handler in earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def unwinding() -> Iterator[None]:
    """Let what ends this process unasked (SIGTERM, SIGHUP) pass through clean-up first, then obey it."""
    came: list[int] = []

    def leave(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:  # another one does not break off the clean-up
            raise SystemExit(_SIGNALLED + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken: list[int] = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])


def _is_in_front() -> bool:
    """Tell whether a terminal's keys reach this process's group, of which the program is too."""
    if sys.platform == "win32" or not hasattr(os, "tcgetpgrp"):
        return True  # a console sends Ctrl-C to all of its processes
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # no terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it has hung up
        return False
    finally:
        os.close(terminal)
