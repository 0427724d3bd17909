"""Documentation is executed: every Python block, in the order of its page, and the tutorial's commands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import blocks, page_id, pages
from source_tree import ROOT

RUNNER = """
import json, subprocess, sys
for language, file_name, line, code in json.loads(sys.stdin.read()):
    if language == "sh":
        subprocess.run(["bash", "-eo", "pipefail", "-c", code], check=True)
    elif file_name:
        open(file_name, "w", encoding="utf-8").write(code)
    else:
        exec(compile("\\n" * (line - 1) + code, sys.argv[1], "exec"), globals())
"""
WITH_COMMANDS = ["docs/tutorial.md"]  # pages that are followed as a reader would
PAGES = [page for page in pages() if any(one.language == "python" for one in blocks(page))]
PATIENCE_S = 120
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


def environment() -> dict[str, str]:
    """A reader's environment, with `mlobs` in it; on a busy machine delivery has more time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOBS_", "MLFLOW_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return kept | {"MLOBS_FINISH_TIMEOUT_S": str(PATIENCE_S), "PATH": path}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page_id(page), marks=[pytest.mark.slow] if page_id(page) in WITH_COMMANDS else []
        )
        for page in PAGES
    ],
)
def test_the_python_on_a_page_runs(page: Path, tmp_path: Path) -> None:
    languages = ("python", "sh") if page_id(page) in WITH_COMMANDS else ("python",)
    code = [
        (one.language, one.file_name, one.line, one.code)
        for one in blocks(page)
        if one.language in languages and one.reason_not_to_run is None
    ]

    done = subprocess.run(
        [sys.executable, "-c", RUNNER, page_id(page)],
        input=json.dumps(code),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S + 60,
    )

    if done.returncode != 0:
        pytest.fail(done.stderr[-3000:])


@pytest.mark.parametrize("page", [pytest.param(page, id=page_id(page)) for page in pages()])
def test_a_block_that_does_not_run_says_why(page: Path) -> None:
    fences = [one for one in blocks(page) if one.language.startswith(("py", "sh"))]

    assert all(one.language in ("python", "sh") for one in fences), (
        "spell the language `python`, so that it is run"
    )
    silent = [one.line for one in fences if one.remark and not one.reason_not_to_run]
    assert not silent, f"lines {silent}: write ```python no-run: the reason"


@pytest.mark.parametrize("page", [pytest.param(page, id=page_id(page)) for page in pages()])
def test_links_lead_somewhere(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]

    dead = [one for one in targets if "://" not in one and not (page.parent / one).exists()]
    assert not dead


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        for match in LINK.finditer(page.read_text(encoding="utf-8")):
            target = (page.parent / match["target"]).resolve()
            if target.suffix == ".md" and target.exists() and target not in seen:
                ahead.append(target)

    assert not set(pages()) - seen
