"""The example of a backend of one's own: short, complete, and it keeps the contract."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlobs.testing import BackendContract

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from own_backend import JsonLines  # noqa: E402 - an example is a script, not a package


class TestJsonLines(BackendContract):
    precision_s = 0.0

    @pytest.fixture
    def backend(self, tmp_path):
        return JsonLines(str(tmp_path / "lines"))

    @pytest.fixture
    def unreachable(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        return JsonLines(str(tmp_path / "file" / "lines"))


def test_it_fits_on_a_screen():
    source = (EXAMPLES / "own_backend.py").read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if line.strip()]
    assert len(lines) <= 40


def test_a_program_uses_it_like_a_built_in_one(tmp_path):
    (tmp_path / "own_backend.py").write_bytes((EXAMPLES / "own_backend.py").read_bytes())
    (tmp_path / "train.py").write_text(
        "import mlobs\n"
        "from own_backend import JsonLines\n"
        "with mlobs.Tracker(backends=[JsonLines()]).start_run() as run:\n"
        "    for step in range(3):\n"
        "        run.log_metrics({'loss': 0.5**step, 'acc': 0.1}, step=step)\n"
        "print(run.id)\n"
    )
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    lines = (tmp_path / "lines" / f"{done.stdout.strip()}.jsonl").read_text().splitlines()
    kinds = [json.loads(line)[0] for line in lines]
    assert kinds == ["metrics"] * 3 + ["run_finished"]
    assert [json.loads(line)[2:4] for line in lines[:3]] == [
        [step, {"loss": 0.5**step, "acc": 0.1}] for step in range(3)
    ]


def test_the_docs_show_this_very_file():
    page = (EXAMPLES.parent / "docs" / "how-to" / "write-a-backend.md").read_text(encoding="utf-8")

    assert (EXAMPLES / "own_backend.py").read_text(encoding="utf-8").strip() in page
