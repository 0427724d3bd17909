"""What a person would see of a program's output once it stands still: its lines in their final state."""

from __future__ import annotations

import re

MAX_LINE_CHARACTERS = 1 << 16  # a longer line is recorded in pieces: without line ends nothing piles up
MAX_ROWS = 500  # of a display that redraws itself; no terminal shows more

_TOKEN = re.compile(
    r"[^\n\r\x08\x1b]+|[\n\r\x08]"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # ECMA-48 control sequences: colours, cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # xterm's titles and links
    r"|\x1b."
)
_UP = re.compile(r"\x1b\[(\d{0,6})([AF])")
_ERASE = re.compile(r"\x1b\[([012]?)K")


class Screen:
    r"""The end of one output as a terminal shows it; a line leaves it when it stands still.

    A line that a progress bar rewrites (`\r`, `\b`) counts as it is when it ends. A display that
    moves the cursor up, to redraw several lines, counts as it is when something is written below it;
    its lines have been given out once before, when they were drawn first. Colours are left out.
    """

    def __init__(self) -> None:
        self._rows = [""]
        self._row = self._column = 0
        self._bottom: int | None = None  # the last row of a display that redraws itself

    @property
    def is_blank(self) -> bool:
        """Nothing stands on it."""
        return self._bottom is None and not self._rows[0]

    def write(self, text: str) -> list[str]:
        """Write on it, and return the lines that stand still now, without their ends and no empty ones."""
        settled: list[str] = []
        for token in _TOKEN.findall(text):
            match token[0]:
                case "\n":
                    settled += self._end_line()
                case "\r":
                    self._column = 0
                case "\b":
                    self._column = max(0, self._column - 1)
                case "\x1b":
                    self._obey(token)
                case _:
                    settled += self._put(token)
        return _without_blank(settled)

    def clear(self) -> list[str]:
        """Take everything off, and return it."""
        rows, self._rows = self._rows, [""]
        self._row = self._column = 0
        self._bottom = None
        return _without_blank(rows)

    def _put(self, text: str) -> list[str]:
        is_below = self._bottom is not None and self._row > self._bottom
        settled = self._settle() if is_below or self._row >= MAX_ROWS else []
        before, column = self._rows[self._row], self._column
        self._column = column + len(text)
        self._rows[self._row] = before[:column].ljust(column) + text + before[self._column :]
        if self._column > MAX_LINE_CHARACTERS:
            settled += self.clear()
        return settled

    def _end_line(self) -> list[str]:
        if self._bottom is None:
            return self.clear()
        self._column = 0
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")
        return []

    def _settle(self) -> list[str]:
        """Nothing above this row is redrawn any more."""
        settled, self._rows = self._rows[: self._row], self._rows[self._row :]
        self._row, self._bottom = 0, None
        return settled

    def _obey(self, control: str) -> None:
        if up := _UP.match(control):
            self._row -= int(up[1] or 1)
            if self._row < 0:  # lines that were given out before
                self._rows[:0] = [""] * min(-self._row, MAX_ROWS)
                self._row = 0
            if up[2] == "F":
                self._column = 0
            self._bottom = len(self._rows) - 1
        elif erase := _ERASE.match(control):
            line, column = self._rows[self._row], self._column
            left = "" if erase[1] in ("", "0") else " " * column
            keeps_left, keeps_right = erase[1] in ("", "0"), erase[1] == "1"
            self._rows[self._row] = (line[:column] if keeps_left else left) + (
                line[column:] if keeps_right else ""
            )


def _without_blank(lines: list[str]) -> list[str]:
    return [line for line in map(str.rstrip, lines) if line]
