"""Canonical types: what a column holds, in whatever library it lies."""

from __future__ import annotations

import re
from typing import NamedTuple

_SPECIAL = re.compile(r"([\\<>,:{}])")

INTS = frozenset({"i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"})
FLOATS = frozenset({"f16", "f32", "f64"})
COMPLEX = frozenset({"c64", "c128"})
MOMENTS = frozenset({"datetime", "instant", "time", "duration"})
TEXTS = frozenset({"utf8", "bytes"})


class Tag(NamedTuple):
    """A type. `children` are the fields of a struct, or the one of a list or extension under any name.

    `detail` is the scale of a "dec", and the name of an "ext".
    """

    kind: str
    children: tuple[tuple[str, Tag], ...] = ()
    detail: str = ""

    @property
    def text(self) -> str:
        """As it enters the digest: "i64", "dec<2>", "list<utf8>", "struct<x:f64,y:f64>"."""
        if self.kind == "struct":
            return f"struct<{','.join(f'{escaped(name)}:{tag.text}' for name, tag in self.children)}>"
        if self.kind == "list":
            return f"list<{self.children[0][1].text}>"
        if self.kind == "ext":
            return f"ext<{self.detail}:{self.children[0][1].text}>"
        return f"{self.kind}<{self.detail}>" if self.detail else self.kind


NULL = Tag("null")


def list_of(child: Tag) -> Tag:
    """A list's type, whether its lists have one length, or differ."""
    return Tag("list", (("", child),))


def escaped(name: str) -> str:
    """A field's name in which the signs of the notation have a backslash before them."""
    return _SPECIAL.sub(r"\\\1", name)
