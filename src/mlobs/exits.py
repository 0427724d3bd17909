"""How a program ends, noticed where it can be: exit hooks, uncaught exceptions, signals."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn

from mlobs.program import FINISHED, Ending, program
from mlobs.values import repr_of, text_of

_SIGNALS = ("SIGTERM", "SIGHUP")  # SIGINT is Python's KeyboardInterrupt already
_earlier: dict[int, list[Any]] = {}  # what each signal's handlers were, the first one first
_depth: Counter[int] = Counter()
_is_watching = False
_finalizing_pid = 0


def watch() -> None:
    """Notice from now on how this process ends. Earlier hooks and handlers still run."""
    global _is_watching  # noqa: PLW0603 - hooks of the process are installed once
    if not _is_watching:
        _is_watching = True
        atexit.register(_at_exit)
        _chain_excepthook()
        _chain_thread_excepthook()
        _chain_sys_exit()
    _watch_multiprocessing_child()
    if threading.current_thread() is threading.main_thread():
        _chain_signals()


def ending(error: BaseException | None) -> Ending:
    """How a run ends that is left by this exception, or by none."""
    noted = program().signal
    match error:
        case None | GeneratorExit():
            return FINISHED
        case SystemExit() if noted:
            return Ending("KILLED", noted, exit_code=_exit_code(error.code))
        case SystemExit():
            exit_code = _exit_code(error.code)
            if exit_code == 0:
                return Ending("FINISHED", exit_code=0)
            return Ending("FAILED", f"sys.exit({repr_of(error.code)})", exit_code=exit_code)
        case KeyboardInterrupt():
            return Ending("KILLED", noted or "SIGINT")
        case Exception():
            return Ending("FAILED", _in_one_line(error), _traceback_of(error))
        case _:  # asyncio.CancelledError and its like: stopped from outside, nothing broke
            return Ending("KILLED", _in_one_line(error))


def _exit_code(code: object) -> int:
    """The exit code that Python makes of what `sys.exit` was given: of a message 1, of a huge number -1."""
    number = int(code) if isinstance(code, int) else int(code is not None)
    return number if -(2**63) <= number < 2**63 else -1


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {text_of(error)}".split()).rstrip(": ")


def _traceback_of(error: Exception) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:  # a SyntaxError of somebody's own, with fields that are no texts
        return "".join(traceback.format_tb(error.__traceback__)) + _in_one_line(error)


def _at_exit() -> None:
    with contextlib.suppress(KeyboardInterrupt):  # said already; a traceback at exit would help nobody
        program().exit()


def _chain_excepthook() -> None:
    earlier = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            if not hasattr(sys, "ps1"):  # at a prompt the program goes on behind an exception
                program().end_all(ending(error))
        finally:
            earlier(kind, error, trace)

    sys.excepthook = excepthook


def _chain_thread_excepthook() -> None:
    """An exception that ends a thread ends the runs that were opened there; nobody else would know."""
    earlier = threading.excepthook

    def excepthook(args: threading.ExceptHookArgs, /) -> None:
        try:
            if args.exc_value is not None:
                program().end_all(ending(args.exc_value), opened_in=threading.current_thread())
        finally:
            earlier(args)

    threading.excepthook = excepthook


def _chain_sys_exit() -> None:
    """Learn the exit code: nothing else tells it to a program that never catches SystemExit."""
    earlier = sys.exit

    def noting_exit(code: Any = None, /) -> NoReturn:
        if threading.current_thread() is threading.main_thread():
            program().note_exit(ending(SystemExit(code)))
        earlier(code)

    sys.exit = noting_exit


def _watch_multiprocessing_child() -> None:
    """A child of multiprocessing leaves by `os._exit`: its own finalizers run, atexit's do not."""
    global _finalizing_pid  # noqa: PLW0603 - a forked child inherits all hooks but this one
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _finalizing_pid == os.getpid():
        return
    from multiprocessing.util import Finalize

    _finalizing_pid = os.getpid()
    Finalize(None, _at_worker_exit, exitpriority=100)
    if sys.version_info >= (3, 13):
        _chain_print_exc(process.BaseProcess._bootstrap.__code__)  # noqa: SLF001 - nothing public tells


def _at_worker_exit() -> None:
    error = sys.exc_info()[1]  # up to Python 3.12 finalizers run while what ended the worker is handled
    if error is not None:
        program().end_all(ending(error))
    program().exit()


def _chain_print_exc(worker_code: CodeType) -> None:
    """Learn what ended a worker when multiprocessing prints it: its finalizers cannot know any more."""
    earlier = traceback.print_exc

    def noting_print_exc(*args: Any, **kwargs: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and sys._getframe(1).f_code is worker_code:  # noqa: SLF001 - not somebody else's print
            program().end_all(ending(error))
        earlier(*args, **kwargs)

    traceback.print_exc = noting_print_exc


def release_worker() -> None:
    """Let a worker of multiprocessing end by a signal as before, once no run is open in it.

    A signal that comes just before the process waits for a lock is handled when the wait is over:
    a worker of a pool, which waits for its next job, would not end by the SIGTERM of `Pool.terminate`.
    Other processes stay watched: a run may yet be opened on another thread, which cannot do that.
    """
    if _finalizing_pid == os.getpid():
        _unchain_signals()


def _unchain_signals() -> None:
    """Give the signals back to their earlier handlers."""
    if program().runs or threading.current_thread() is not threading.main_thread():
        return
    for number in [one for one in _earlier if signal.getsignal(one) is _on_signal]:
        *before, latest = _earlier.pop(number)
        if before:  # `latest` may call ours, as the one before it
            _earlier[number] = before
        signal.signal(number, latest)


def _chain_signals() -> None:
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is None:
            continue
        current = signal.getsignal(number)
        if current is _on_signal or current is signal.SIG_IGN or current is None:
            continue  # ours already; ignored, as under nohup; or not installed from Python
        others = [one for one in _earlier.get(number, []) if one != current]
        _earlier[number] = [*others, current]
        signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Note why the program may be about to end, then do what would have happened without us.

    A handler that was installed after ours may call ours in turn, as the one before it: then the one
    before that has its turn, down to the first.
    """
    handlers = _earlier.get(number) or [signal.SIG_DFL]
    earlier: Callable[[int, FrameType | None], Any] | signal.Handlers
    earlier = handlers[max(0, len(handlers) - 1 - _depth[number])]
    if callable(earlier):
        program().signal = signal.Signals(number).name
        _depth[number] += 1
        try:
            earlier(number, frame)
        finally:
            _depth[number] -= 1
        return
    try:
        program().end_all(Ending("KILLED", signal.Signals(number).name))
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unchain_signals)
