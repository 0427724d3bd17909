"""The sender's own output, without secrets: vendors write what they like to it, such as URLs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TextIO

from mlobs.secrets import Redaction


class Masking:
    """A text stream that takes the secrets out of what is written to another."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._redaction = stream, Redaction(environment=os.environ)

    def write(self, text: str) -> int:
        """Write the text without its secrets; loggers and `traceback` write a whole message at once."""
        self._stream.write(self._redaction.text(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write them without their secrets."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
