"""Names that a backend cannot take, written in characters that it can, and read back.

A forbidden character becomes `_xHEX_`, its code point in at least two upper-case hexadecimal digits:
`loss:val` is `loss_x3A_val` where the colon is forbidden. Text that would be read as such an escape
is escaped itself (`_x3A_` is `_x5F_x3A_`), so no two names ever meet and every name comes back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

SYSTEM_PREFIX = "system/"  # of the metrics that say what load the program and its machine had

_ALPHABET = "_x0123456789ABCDEF"  # what an escape is written in: a pattern has to allow all of it
_HEX = "[0-9A-F]{2,6}"  # at least two digits, so that the common names `w_x1_mean` stay as they are
_ESCAPE = re.compile(f"_x({_HEX})_")
_HALF_ESCAPE = re.compile("_(?:x[0-9A-F]{0,6})?$")
_HASH_BYTES = 4
_EMPTY = "_x_"  # stands for the empty name, which is no path

# A "/" that is first, last or follows another; the first "." of a part "." or ".."; a leading "..":
# posixpath.normpath would change these, and MLflow (path_not_unique, 2.x and 3.x) refuses them.
_BAD_IN_PATH = r"(?<![^/])/|/\Z|(?<![^/])\.(?=\.?(?:/|\Z))|\A\.(?=\.)"
_PLAIN_PATH = r"(?=.)(?!\.\.)(?!.*//)(?!.*/\Z)(?!/)(?!(?:.*/)?\.{1,2}(?:/|\Z))"
_MAX_CODE_POINT = 0x10FFFF


class _Rules(NamedTuple):
    """`plain` matches the whole of a name that needs nothing; `bad` finds a character to escape."""

    plain: re.Pattern[str]
    bad: re.Pattern[str]


def escape_name(
    name: str, pattern: str | None, *, is_path: bool = False, max_length: int | None = None
) -> str:
    """Return the name as the backend can take it: the very same object if it needs nothing.

    `pattern` is a regular expression that one allowed character matches; None allows all. With
    `is_path` the result is a relative POSIX path in normal form, as MLflow asks for. A result longer
    than `max_length` characters is cut and ends in a hash of the whole name: still the name's own,
    but `unescape_name` cannot bring it back.

    Raises:
        ValueError: the pattern refuses a character that escapes are written in.
    """
    rules = _rules(pattern, is_path)
    escaped = name if rules.plain.fullmatch(name) else _escape(name, rules.bad, is_path=is_path)
    return escaped if max_length is None or len(escaped) <= max_length else cut_name(escaped, max_length)


def unescape_name(name: str) -> str:
    """Return the name that `escape_name` was given; of a name that was cut, what is left of it."""
    if "_x" not in name:
        return name
    return "" if name == _EMPTY else _ESCAPE.sub(_character, name)


def cut_name(name: str, max_length: int) -> str:
    """Return the name in at most `max_length` characters; if cut, it ends in `_` and 8 digits of its hash.

    The hash is BLAKE2b's first 4 bytes over UTF-8: the same on every machine and for every version.
    """
    if len(name) <= max_length:
        return name
    content = name.encode("utf-8", "surrogatepass")
    end = "_" + hashlib.blake2b(content, digest_size=_HASH_BYTES).hexdigest().upper()
    if max_length <= len(end):
        return end[-max_length:]
    return _HALF_ESCAPE.sub("", name[: max_length - len(end)]) + end


def _escape(name: str, bad: re.Pattern[str], *, is_path: bool) -> str:
    if not name and is_path:
        return _EMPTY
    return bad.sub(lambda match: f"_x{ord(match[0]):02X}_", name)


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if code <= _MAX_CODE_POINT else match[0]


@lru_cache(maxsize=64)
def _rules(pattern: str | None, is_path: bool) -> _Rules:  # noqa: FBT001 - lru_cache is faster by position
    allowed = rf"(?:{pattern})" if pattern is not None else r"[\s\S]"
    refused = [character for character in _ALPHABET if not re.fullmatch(allowed, character)]
    if refused:
        raise ValueError(
            f"name pattern {pattern!r} refuses {''.join(refused)!r}, but escapes are written in"
            f" {_ALPHABET!r} - allow these characters, or give None"
        )
    bad = rf"(?!{allowed})[\s\S]" + (f"|{_BAD_IN_PATH}" if is_path else "")
    literal = rf"_(?=x{_HEX}(?:_|{bad}))|\A_(?=x_\Z)"
    plain = (_PLAIN_PATH if is_path else "") + rf"(?!.*_x){allowed}*"
    return _Rules(re.compile(plain, re.DOTALL), re.compile(f"{bad}|{literal}", re.DOTALL))


def nearest_names(name: str, names: Sequence[str], most: int = 10) -> str:
    """Say which of the names was meant perhaps, else which there are, for the end of an error."""
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"there is {', '.join(names[:most])}{more}" if names else "there is none at all"
