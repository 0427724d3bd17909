"""Seeding: equal draws in two processes, and a report that says what it could not reach."""

import json
import os
import subprocess
import sys

import pytest

from mlobs.errors import UsageError
from mlobs.repro.seeds import seed_everything

SAY = """
import json, msgspec
from mlobs.repro.seeds import last_seeding, seed_everything
report = seed_everything({seed}, deterministic="{deterministic}")
assert last_seeding() is report
print(json.dumps([msgspec.to_builtins(report), {draw}]))
"""


def seeded(imports="", draw="None", seed=7, deterministic="warn", python=(), **env):
    """The report of `seed_everything` in a process of its own, and what that process drew."""
    program = imports + SAY.format(seed=seed, deterministic=deterministic, draw=draw)
    wanted = {name: value for name, value in os.environ.items() if name not in CLEARED} | env
    done = subprocess.run(
        [sys.executable, *python, "-c", program], env=wanted, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CLEARED = {"PYTHONHASHSEED", "MLOBS_SEED", "CUBLAS_WORKSPACE_CONFIG"}


def entry(entries, beginning):
    return next((one for one in entries if one.startswith(beginning)), None)


def test_python_and_numpy_draw_the_same_in_two_processes():
    draw = "[random.random(), numpy.random.rand()]"

    (report, first), (_, second) = (seeded("import random, numpy", draw) for _ in range(2))

    assert first == second
    assert {"random", "numpy.random (the global generator)"} <= set(report["covered"])


def test_torch_draws_the_same_and_is_made_deterministic():
    pytest.importorskip("torch")
    draw = (
        "[torch.rand(1).item(), torch.are_deterministic_algorithms_enabled(),"
        " torch.is_deterministic_algorithms_warn_only_enabled()]"
    )

    (report, first), (_, second) = (
        seeded("import torch", draw, deterministic=how) for how in ("warn", "strict")
    )

    assert first[0] == second[0]
    assert (first[1:], second[1:]) == ([True, True], [True, False])
    assert {"torch (all devices)", "torch deterministic algorithms (warn)"} <= set(report["covered"])


def test_off_changes_no_kernel():
    report, variable = seeded("import os", "os.environ.get('CUBLAS_WORKSPACE_CONFIG')", deterministic="off")

    assert variable is None
    assert not entry(report["covered"], "CUBLAS")


def test_a_library_that_is_imported_later_is_named_with_what_to_type():
    report, _ = seeded()

    assert entry(report["not_covered"], "numpy") == (
        "numpy (not imported yet: call seed_everything after `import numpy`)"
    )


def test_a_library_that_refuses_is_named_and_the_others_are_seeded():
    broken = "import sys, types\nsys.modules['numpy'] = types.ModuleType('numpy')"

    report, _ = seeded(broken)

    assert report["covered"][0] == "random"
    assert entry(report["not_covered"], "numpy (AttributeError")


def test_the_hash_seed_of_a_started_interpreter_is_not_covered_and_the_command_is_named():
    report, _ = seeded("import os; os.environ['PYTHONHASHSEED'] = '7'")

    assert "mlobs run --seed 7 -- python" in entry(report["not_covered"], "PYTHONHASHSEED")


def test_a_hash_seed_that_was_set_before_the_start_is_covered():
    report, _ = seeded(PYTHONHASHSEED="7")

    assert "PYTHONHASHSEED=7" in report["covered"]


def test_a_hash_seed_that_the_interpreter_was_told_to_ignore_is_not_covered():
    path = os.pathsep.join(sys.path)
    imports = f"import os, sys; sys.path[:] = {path!r}.split(os.pathsep)"

    report, _ = seeded(imports, python=("-E",), PYTHONHASHSEED="7")

    assert entry(report["not_covered"], "PYTHONHASHSEED")


def test_an_unseeded_generator_of_numpys_is_never_covered():
    report, _ = seeded("import numpy")

    assert entry(report["not_covered"], "numpy.random.default_rng() without a seed")


def test_without_a_seed_a_fresh_one_is_chosen_and_reported():
    seeds = {seeded(seed=None)[0]["seed"] for _ in range(2)}

    assert len(seeds) == 2
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_without_a_seed_that_of_the_launcher_counts():
    report, _ = seeded(seed=None, MLOBS_SEED="41")

    assert report["seed"] == 41


def test_cublas_is_not_covered_once_cuda_has_begun_without_it():
    begun = (
        "import sys, types\n"
        "torch = sys.modules['torch'] = types.ModuleType('torch')\n"
        "torch.manual_seed = torch.use_deterministic_algorithms = lambda *_, **__: None\n"
        "torch.cuda = types.SimpleNamespace(is_initialized=lambda: True)\n"
        "torch.backends = types.SimpleNamespace(cudnn=types.SimpleNamespace())"
    )

    report, _ = seeded(begun)

    assert "before the first use of the GPU" in entry(report["not_covered"], "CUBLAS_WORKSPACE_CONFIG")


def test_cublas_is_left_as_the_user_set_it():
    report, _ = seeded(CUBLAS_WORKSPACE_CONFIG=":16:8")

    assert "CUBLAS_WORKSPACE_CONFIG=:16:8" in report["covered"]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(UsageError, match="expected an integer from 0 to 4294967295"):
        seed_everything(seed)


def test_a_word_that_is_none_of_the_three_is_refused():
    with pytest.raises(UsageError, match='expected "off", "warn" or "strict"'):
        seed_everything(7, deterministic="always")
