"""Python's printed tracebacks as the service wants exceptions: a chain with parsed frames."""

from __future__ import annotations

import re
from typing import Any

_BETWEEN = re.compile(
    r"\n+(?:The above exception was the direct cause of the following exception:"
    r"|During handling of the above exception, another exception occurred:)\n+"
)
_FRAME = re.compile(r'^\s*(?:\|\s*)*File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<method>.*))?$')
_END = re.compile(r"^(?:\s*\|\s*)?(?P<type>[A-Za-z_][\w.]*)(?::\s?(?P<message>.*))?$")
_MAX_CHAIN, _MAX_FRAMES = 5, 30  # of the parsed form; the text itself is beside it in full
_MAX_MESSAGE, _MAX_NAME = 1000, 250


def exceptions_of(traceback: str, otherwise: str = "Exception") -> list[dict[str, Any]]:
    """The exceptions of a traceback, the one that was raised last first, each pointing to its outer one.

    A cause (`raise ... from`) and a context follow the exception that they belong to. `otherwise`
    names the type where the text does not.
    """
    blocks = _BETWEEN.split(traceback.strip("\n"))
    found = []
    for number, block in enumerate(reversed(blocks[-_MAX_CHAIN:])):
        one = _exception(block, otherwise)
        found.append({"id": number + 1, "outerId": number, **one})
    return found


def _exception(block: str, otherwise: str) -> dict[str, Any]:
    lines = block.split("\n")
    frames = [match for line in lines if (match := _FRAME.match(line))]
    last = max((n for n, line in enumerate(lines) if _FRAME.match(line)), default=-1)
    end = next((n for n in range(last + 1, len(lines)) if _END.match(lines[n])), None)
    type_name, message = otherwise, block
    if end is not None and (match := _END.match(lines[end])):
        type_name = match["type"]
        message = "\n".join([match["message"] or "", *lines[end + 1 :]]).strip()
    stack = [
        {
            "level": level,
            "method": (frame["method"] or "<module>")[:_MAX_NAME],
            "fileName": frame["file"][-_MAX_NAME:],
            "line": int(frame["line"]),
        }
        for level, frame in enumerate(reversed(frames[-_MAX_FRAMES:]))  # level 0 raised it
    ]
    parsed: dict[str, Any] = {"parsedStack": stack} if stack else {}
    shown = message[:_MAX_MESSAGE] or type_name  # an empty message is refused
    return {"typeName": type_name[:_MAX_NAME], "message": shown, "hasFullStack": True, **parsed}
