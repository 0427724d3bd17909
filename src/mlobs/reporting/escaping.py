"""Text of users inside a page: shown as it is, never read as markup."""

from __future__ import annotations

import html
from typing import Any

_SHOWN = {code: "\ufffd" for code in (*range(9), 11, 12, *range(14, 32), 127)}  # HTML allows no control characters


def escaped(value: Any) -> str:
    """Text for the inside of an element or a quoted attribute; what HTML cannot hold becomes visible."""
    text = str(value).encode("utf-8", "backslashreplace").decode()  # a lone surrogate reads as \\ud800
    return html.escape(text.translate(_SHOWN), quote=True)
