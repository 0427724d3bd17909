"""Programs that serve a vendor's pages on 127.0.0.1: started, waited for, and ended without remains."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from mlobs.backend import Viewer
from mlobs.errors import Unavailable

if TYPE_CHECKING:
    from typing_extensions import Self  # of the type checkers; typing has it from 3.11 on

ANSWER_S = 120.0  # MLflow takes 4 s of CPU to import, twice, and a first look at a database migrates it
STOP_S = 10.0  # more than the guard gives the program
_LOOK_S = 0.2
_ASK_S = 5.0
_LAST_WORDS = 5  # lines of a program that ended


class Program:
    """A viewer's program on a free port of 127.0.0.1, until `stop`, or until this process ends in any way."""

    def __init__(self, viewer: Viewer) -> None:
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it is open until `stop`
        arguments = [one.replace("{port}", str(self.port)) for one in viewer.arguments]
        guard = str(Path(__file__).with_name("guard.py"))
        self._guard = subprocess.Popen(  # noqa: S603 - what the backend's own file names
            [sys.executable, guard, *arguments],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **viewer.environment},
            start_new_session=True,  # a Ctrl-C at the terminal is this process's alone
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def is_running(self) -> bool:
        """Tell whether the program has not ended."""
        return self._guard.poll() is None

    def wait_for_answer(self, *, timeout_s: float = ANSWER_S) -> None:
        """Return once the program answers requests.

        Raises:
            Unavailable: it ended, or does not answer in time; the message has its last words.
        """
        deadline = time.monotonic() + timeout_s
        while not _answers(self.address):
            if not self.is_running():
                raise Unavailable(f"it ended with code {self._guard.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"it did not answer within {timeout_s:.0f} s: {self.last_words()}")
            time.sleep(_LOOK_S)

    def last_words(self) -> str:
        """What the program printed last, in one line."""
        self._output.seek(0)
        lines = self._output.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(lines[-_LAST_WORDS:]) or "it said nothing"

    def stop(self) -> None:
        """End the program and all that it started. Repeating it does nothing."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()  # which is what the guard waits for
        with contextlib.suppress(subprocess.TimeoutExpired):  # a guard that was stopped, by somebody else
            self._guard.wait(STOP_S)
        self._output.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches this machine
    try:
        with opener.open(address, timeout=_ASK_S) as answer:
            return bool(answer.status < 500)  # noqa: PLR2004 - HTTP's server errors
    except urllib.error.HTTPError as error:
        return error.code < 500  # noqa: PLR2004 - it refuses, but it is there
    except (OSError, ValueError):
        return False  # not yet
