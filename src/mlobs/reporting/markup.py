"""Pieces of markup that several parts of the page share."""

from __future__ import annotations

from collections.abc import Iterable

from mlobs.read.html import escaped


def table(label: str, heads: Iterable[str], rows: str, kind: str = "") -> str:
    """A table in a place of its own that scrolls, also by keyboard. `heads` are texts, `rows` is markup."""
    cells = "".join(f'<th scope="col">{escaped(head)}</th>' for head in heads)
    return scrolled(
        label,
        f'<table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>',
    )


def scrolled(label: str, content: str) -> str:
    """What may be wider than the page, in a frame that scrolls."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(label)}">{content}</div>'
