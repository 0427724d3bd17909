"""The wait behind the end of a run, and the last word on what each backend has of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlobs.finishing import Awaited, is_delivered, say, wait_for_delivery
from mlobs.program import program
from mlobs.sending import Sending
from mlobs.troubles import Troubles


@dataclass(frozen=True)
class Wait:
    """What is waited for: at once, or later. `most_s`: the tracker's total in seconds.

    `in_thread`: threads of this program deliver. While it ends they cannot import what they lack, so that
    the wait is not left to its very end.
    """

    title: str
    awaited: Sequence[Awaited]
    sending: Sending
    most_s: float
    in_thread: bool
    troubles: Troubles

    def now(self) -> None:
        """Wait within the program's budget, and say what is where."""
        with self.troubles.noted("finish", self._run_id):
            self.sending.flush()
            try:
                with program().budget.spending(self.most_s) as deadline:
                    wait_for_delivery(self.awaited, deadline, self.sending.revive)
            finally:  # Ctrl-C ends the wait, and still learns what is left
                say(self.title, self.awaited, self.sending.outlook())

    def later(self) -> None:
        """Have it sent; the end of the program waits for it, or with `in_thread` that of the event loop."""
        self.sending.flush()
        program().wait_later(self)
        if self.in_thread:
            import asyncio  # whoever calls this from a coroutine has it; most programs do without

            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # of another library
                program().catch_up()
            else:
                loop.run_in_executor(None, program().catch_up)  # `asyncio.run` ends behind its executor

    def is_over(self) -> bool:
        """Tell whether there is nothing left to wait for; takes about 50 us."""
        return is_delivered(self.awaited)

    @property
    def _run_id(self) -> str:
        return self.awaited[0].folder.run_id
