"""Two fingerprints in words: what changed between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mlobs.repro.fingerprint_value import Column, Fingerprint

ROWS_NOTE = "rows1"  # where a table's fingerprint keeps that of its rows in any order
_MOST_FILES = 20


def diff_fingerprints(a: Fingerprint, b: Fingerprint) -> list[str]:
    """What changed from `a` to `b`, a sentence each, columns in order; empty if both are of the same data.

    With fingerprints of different schemes it says that nothing can be told.
    """
    if a.text == b.text:
        return []
    if a.scheme != b.scheme:
        return [f"not comparable: {a.scheme} ({a.strength}) and {b.scheme} ({b.strength})"]
    if a.scheme in ("tfp1", "set1"):
        found = _of_columns(a, b)
    elif a.files or b.files:
        found = _of_files(a.files, b.files)
    else:
        found = [
            f"{key}: {a.notes[key]} -> {b.notes[key]}" for key in ("type", "shape") if _differ(a, b, key)
        ]
    if a.rows != b.rows and None not in (a.rows, b.rows):
        found = [f"{a.rows} rows -> {b.rows} rows", *found]
    return found or ["the content changed" if a.strength == "content" else f"{a.text} -> {b.text}"]


def _differ(a: Fingerprint, b: Fingerprint, key: str) -> bool:
    return key in a.notes and key in b.notes and a.notes[key] != b.notes[key]


def _of_columns(a: Fingerprint, b: Fingerprint) -> list[str]:
    if ROWS_NOTE in a.notes and a.notes[ROWS_NOTE] == b.notes.get(ROWS_NOTE):
        return ["same rows, other order"]
    word = "column" if a.scheme == "tfp1" else "part"
    before, after = _by_name(a.columns), _by_name(b.columns)
    found = [
        sentence
        for name, column in after.items()
        if (sentence := _of_column(word, before.get(name), column, same_rows=a.rows == b.rows))
    ]
    found += [f"{word} {column.name} is gone" for name, column in before.items() if name not in after]
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        found.append(f"the {word}s are in another order")
    return found


def _of_column(word: str, before: Column | None, after: Column, *, same_rows: bool) -> str:
    if before is None:
        return f"{word} {after.name} is new"
    if before.tag != after.tag:
        return f"{word} {after.name}: {before.tag} -> {after.tag}"
    if before.digest != after.digest and same_rows:
        return f"{word} {after.name} changed"
    return ""  # with other rows every column is another


def _by_name(columns: Sequence[Column]) -> dict[tuple[str, int], Column]:
    """Columns by their name, and by which of that name they are."""
    seen: Counter[str] = Counter()
    found = {}
    for column in columns:
        found[column.name, seen[column.name]] = column
        seen[column.name] += 1
    return found


def _of_files(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    found = [f"file {name} changed" for name in sorted(a.keys() & b.keys()) if a[name] != b[name]]
    found += [f"file {name} is new" for name in sorted(b.keys() - a.keys())]
    found += [f"file {name} is gone" for name in sorted(a.keys() - b.keys())]
    more = len(found) - _MOST_FILES
    return [*found[:_MOST_FILES], f"and {more} files more"] if more > 0 else found
