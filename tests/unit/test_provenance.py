"""What the training process says of itself."""

import subprocess
import sys

import pytest

_PROGRAM = """
import helper
from mlobs.provenance import _module_facts
print(_module_facts()["changed"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process, as Linux tells it")
def test_a_script_written_just_before_it_is_started_was_not_edited_since(tmp_path):
    for _ in range(10):
        (tmp_path / "helper.py").write_text("x = 1\n")
        (tmp_path / "fit.py").write_text(_PROGRAM)
        done = subprocess.run(
            [sys.executable, "fit.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == "[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process, as Linux tells it")
def test_a_module_edited_after_its_import_is_named(tmp_path):
    (tmp_path / "helper.py").write_text("x = 1\n")
    edit = "import helper, pathlib\npathlib.Path('helper.py').write_text('x = 2')\n"
    (tmp_path / "fit.py").write_text("import time\n" + edit + _PROGRAM)
    done = subprocess.run(
        [sys.executable, "fit.py"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"[{str(tmp_path / 'helper.py')!r}]\n"
