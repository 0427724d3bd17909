"""The documentation as a site: all of it is there, and it asks nobody for anything.

mkdocs is of the extra `docs`; where it is not installed, `make docs` builds the same.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from pages import page_id, pages
from source_tree import ROOT

import mlobs
from mlobs.cli.app import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocstrings") is None, reason="type: pip install -e '.[docs]'"),
]
LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=\"?(?P<address>[^\s\">]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_there(site):
    built = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}

    wanted = {page_id(page).removeprefix("docs/") for page in pages() if page.name != "README.md"}
    assert wanted <= built
    assert {"index.md", "changes.md", "licence.md"} <= built


def test_every_block_of_code_is_shown_as_one(site):
    unread = [page.name for page in site.rglob("*.html") if "```" in page.read_text(encoding="utf-8")]

    assert not unread


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = {
        match["address"]
        for page in site.rglob("*.html")
        for match in LOADED.finditer(page.read_text(encoding="utf-8"))
    }

    assert loaded
    assert not [one for one in loaded if "//" in one]


def test_every_public_name_is_in_the_reference_made_from_docstrings(site):
    reference = (site / "reference" / "python.html").read_text(encoding="utf-8")

    names = [name for name in mlobs.__all__ if name not in ("__version__", "backends")]
    assert not [name for name in names if f'id="mlobs.{name}"' not in reference]
    assert "Record several metrics of one step as one event" in reference  # Run.log_metrics


def test_every_command_is_in_the_reference_made_from_the_commands(site):
    import typer

    reference = (site / "reference" / "commands.html").read_text(encoding="utf-8")

    for name, command in typer.main.get_command(app).commands.items():
        section = reference.partition(f'id="mlobs-{name}"')[2].partition("<h2")[0]
        assert section, name
        options = [one for option in command.params for one in option.opts if one.startswith("-")]
        assert not [one for one in options if one not in section], name
