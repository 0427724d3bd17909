"""The frozen fingerprints on every interpreter, and on old and new versions of the libraries.

Each environment is made once and kept beside this one's packages; where an interpreter or the registry
cannot be had, its case is skipped, and says so.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "fixtures" / "fingerprints" / "golden_tables.py"
GOLDEN = json.loads(SCRIPT.with_name("golden.json").read_text(encoding="utf-8"))
CORE = ("blake3>=1.0", "msgspec>=0.19")
ENVIRONMENTS = {
    "oldest": ("3.10", ("pandas==2.0.3", "numpy==1.26.4", "pyarrow==14.0.2", "polars==0.20.31")),
    "no-arrow": ("3.11", ("pandas==2.3.3", "numpy==2.2.6")),
    "middle": (
        "3.12",
        ("pandas==2.2.3", "numpy==2.1.3", "pyarrow==19.0.1", "polars==1.20.0", "duckdb==1.2.2"),
    ),
    "newest": ("3.13", ("pandas>=3", "pyarrow>=25", "polars>=1.30", "duckdb>=1.4")),
}
NOT_ITS_OWN = {
    ("table decimal", "polars"),
    ("table struct", "polars"),
}  # Polars 0.20: floats, and no missing struct
NESTED = {"table list", "table struct"}
SAY_VERSION = "import sys, venv; print(*sys.version_info[:2], sep='.')"
DASK = """
import dask.dataframe as dd, pandas as pd
from mlobs.repro.fingerprint import RowsPartial, fingerprint
frame = pd.DataFrame({"n": range(1000), "s": [f"x{n % 7}" if n % 5 else None for n in range(1000)]})
spread = dd.from_pandas(frame, npartitions=4)
wanted = RowsPartial.of(frame).fingerprint()
assert fingerprint(spread) == wanted
assert fingerprint(spread.shuffle("s")) == wanted
"""

pytestmark = pytest.mark.slow


def found(version):
    """An interpreter of this version that works: from PATH, pyenv or uv."""
    names = [shutil.which(f"python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names += sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))
    if uv := shutil.which("uv"):
        asked = subprocess.run([uv, "python", "find", version], capture_output=True, text=True, check=False)
        names.append(asked.stdout.strip())
    for name in filter(None, names):
        done = subprocess.run([name, "-c", SAY_VERSION], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return str(name)
    return None


def environment_of(name, version, packages):
    """The Python of an environment with these packages; mlobs is this checkout's."""
    interpreter = found(version)
    if interpreter is None:
        pytest.skip(f"no Python {version} is on PATH, or with pyenv or uv")
    folder = Path(sys.prefix) / "fingerprints" / name
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", folder], check=True, timeout=120)
        pip = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ]
        done = subprocess.run(
            [*pip, *CORE, *packages], capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode != 0:
            pytest.skip(f"pip cannot install {' '.join(packages)}: {done.stderr.strip()[-300:]}")
        (folder / "ready").touch()
    return python


def answer(python, *arguments):
    """What a script prints there."""
    done = subprocess.run(
        [python, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_fingerprints_are_the_frozen_ones_with(name):
    version, packages = ENVIRONMENTS[name]
    texts = json.loads(answer(environment_of(name, version, packages), SCRIPT, "--forms"))

    wanted = {case: text for case, text in GOLDEN.items() if name != "no-arrow" or case not in NESTED}
    found_there = {(case, form): text for case, forms in texts.items() for form, text in forms.items()}
    different = {key: text for key, text in found_there.items() if text != wanted[key[0]]}
    if name == "oldest":
        different = {key: text for key, text in different.items() if key not in NOT_ITS_OWN}
    assert texts.keys() == wanted.keys()
    assert not different


def test_a_frame_of_dask_has_the_fingerprint_of_its_rows():
    python = environment_of("dask", "3.12", ("dask[dataframe]", "pandas>=2.2", "pyarrow>=19"))

    answer(python, "-c", DASK)


def test_this_interpreter_has_what_the_unit_tests_compare():
    assert all(map(find_spec, ("pandas", "polars", "pyarrow")))
