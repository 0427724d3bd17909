"""The file: one HTML document that holds its style, its script, its data and the plotting library.

Nothing is loaded from anywhere: the Content-Security-Policy forbids it, and allows no script but the
two of ours, by their hashes (CSP level 2). Data and library are packed (gzip, Base64) and unpacked by
the browser once the page is painted.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

from mlobs.errors import MissingPackage
from mlobs.read.html import escaped
from mlobs.reporting.colours import DARK, LIGHT

_SCRIPTS = ("theme.js", "table.js", "unpacking.js", "curves.js", "charts.js", "params.js", "start.js")


def document(title: str, sections: Sequence[tuple[str, str, str]], data: dict[str, Any], about: str) -> str:
    """The page. `sections` are (id, heading, HTML); `data` goes to the charts; `about` goes under the title.

    Raises:
        MissingPackage: plotly is not installed.
    """
    script, library = _script(), plotly_js()
    packed = _packed(json.dumps(data, separators=(",", ":")))
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in sections)
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-heading">'
        f'<h2 id="{name}-heading">{heading}</h2>{content}</section>'
        for name, heading, content in sections
    )
    return "".join((
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script, library)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escaped(title)}</title><style>{_style()}</style></head><body>",
        f'<a class="skip" href="#runs">Skip to the runs</a><header><div><h1>{escaped(title)}</h1>',
        f'<p class="note">{about}</p></div>',
        '<button type="button" id="theme">Theme: as the system</button></header>',
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main>',
        '<div id="said" role="status" aria-live="polite"></div>',
        f'<script type="text/plain" id="packed-data">{packed}</script>',
        f'<script type="text/plain" id="packed-library">{_packed_library()}</script>',
        f"<script>{script}</script></body></html>\n",
    ))  # fmt: skip


@cache
def plotly_js() -> str:
    """The library as the installed plotly ships it.

    Raises:
        MissingPackage: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingPackage("plotly", "report") from error
    code: str = get_plotlyjs()
    return code.replace("\r\n", "\n")


@cache
def _packed_library() -> str:
    return _packed(plotly_js())


def _packed(text: str) -> str:
    content = gzip.compress(text.encode(), compresslevel=9, mtime=0)  # the same data, the same file
    return base64.b64encode(content).decode("ascii")


def _policy(*scripts: str) -> str:
    hashes = " ".join(f"'sha256-{_hash(one)}'" for one in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _script() -> str:
    parts = "\n".join(_asset(name) for name in _SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{parts}\n}})();\n'


def _style() -> str:
    return _asset("style.css") + "".join(_colours())


def _colours() -> Iterator[str]:
    for at, (light, dark) in enumerate(zip(LIGHT, DARK, strict=True)):
        yield f".c{at}{{stroke:light-dark({light},{dark})}}"


@cache
def _asset(name: str) -> str:
    return resources.files("mlobs.reporting").joinpath("page").joinpath(name).read_text(encoding="utf-8")
