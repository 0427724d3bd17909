"""The command, folder and import path by which a program starts again from its restored code."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlobs.errors import UsageError
from mlobs.repro.code_root import CodeRoot
from mlobs.repro.entry import entry_facts
from mlobs.repro.program import Restored, absent, command_of, folder_of, import_path

PYTHON = Path("/new/venv/bin/python")
HERE = Path("/again/code")


def restored(*roots, folder=HERE):
    given = roots or (("/p", ""),)
    return Restored(folder, tuple(CodeRoot(path, place, "t" * 40, "plain") for path, place in given))


def entry(kind="script", target="/p/train.py", command=("python", "train.py"), cwd="/p", **facts):
    given = {"kind": kind, "target": target, "command": list(command), "cwd": cwd}
    return given | {"executable": "/old/venv/bin/python"} | facts


def command(facts, roots=None, params=None, executed=None):
    return command_of(facts, roots or restored(), PYTHON, params or {}, executed)


def test_a_script_starts_at_its_new_place_with_its_own_arguments():
    found = command(entry(command=["python", "-u", "train.py", "--data", "train.py", "--lr=1"]))
    assert found == [str(PYTHON), "-u", "/again/code/train.py", "--data", "train.py", "--lr=1"]


@pytest.mark.parametrize(
    ("typed", "cwd", "target"),
    [
        ("/p/sub/train.py", "/elsewhere", "/p/sub/train.py"),
        ("sub/train.py", "/p", "/p/sub/train.py"),
        ("../sub/train.py", "/p/other", "/p/sub/train.py"),
        ("./sub/../sub/train.py", "/p", "/p/sub/train.py"),
    ],
)
def test_a_script_is_found_however_its_path_was_typed(typed, cwd, target):
    found = command(entry(command=["python", typed, "x"], cwd=cwd, target=target))
    assert found == [str(PYTHON), "/again/code/sub/train.py", "x"]


def test_a_program_that_changed_its_folder_starts_where_it_was_started():
    facts = entry(command=["python", "src/train.py"], target="/p/src/train.py", cwd="/p/outputs/2024-01-31")
    assert command(facts) == [str(PYTHON), "/again/code/src/train.py"]
    assert folder_of(facts, restored(), Path("/again/cwd")) == HERE
    assert absent(["/p/data"], facts, restored(), HERE) == {}


def test_a_module_and_a_command_are_typed_again():
    module = entry("module", "pkg.train", ["python", "-X", "dev", "-m", "pkg.train", "--lr", "1"])
    assert command(module) == [str(PYTHON), "-X", "dev", "-m", "pkg.train", "--lr", "1"]
    typed = entry("command", "-c", ["python", "-c", "import train; train.fit()", "arg"])
    assert command(typed) == [str(PYTHON), "-c", "import train; train.fit()", "arg"]


def test_a_program_of_the_environment_is_that_of_the_new_one():
    facts = entry(
        target="/old/venv/bin/fit-model", command=["/old/venv/bin/python", "/old/venv/bin/fit-model", "a"]
    )
    assert command(facts) == [str(PYTHON), "/new/venv/bin/fit-model", "a"]


def test_it_is_that_of_the_new_one_also_if_the_old_lay_in_the_project():
    facts = entry(
        target="/p/.venv/bin/fit-model",
        command=["/p/.venv/bin/python", "/p/.venv/bin/fit-model"],
        executable="/p/.venv/bin/python",
    )
    assert command(facts) == [str(PYTHON), "/new/venv/bin/fit-model"]


def test_a_notebook_runs_its_cells_as_they_were_run():
    facts = entry("notebook", "/p/fit.ipynb", ["python", "-m", "ipykernel_launcher", "-f", "/k.json"])
    assert command(facts, executed=Path("/s/executed.py")) == [str(PYTHON), "/s/executed.py"]
    with pytest.raises(UsageError, match=r"cells .* were not captured - type: mlobs reproduce RUN -- python"):
        command(facts)


def test_a_function_that_was_called_at_a_prompt_is_called_again(tmp_path):
    (tmp_path / "train.py").write_text(
        "import json\nclass Deep:\n  @staticmethod\n  def fit(**given):\n    print(json.dumps(given))\n"
    )
    params = {"lr": 0.1, "name": "it's", "layers": [1, 2], "none": None, "flag": True}
    facts = entry("interactive", "", ["python"], function="train:Deep.fit")
    typed = command_of(facts, restored(), Path(sys.executable), params, None)
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == params


@pytest.mark.parametrize("function", [None, "", "__main__:fit", "train:make.<locals>.fit"])
def test_what_was_typed_at_a_prompt_cannot_start_again(function):
    with pytest.raises(UsageError, match="typed at a prompt - type: mlobs reproduce RUN -- python"):
        command(entry("interactive", "", ["python"], function=function))


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"model.lr": 0.1}, "model.lr"),
        ({"eps": math.nan}, "eps"),
        ({"eps": [1.0, math.inf]}, "eps"),
        ({"password": "[redacted]"}, "password"),
    ],
)
def test_a_function_is_not_called_with_something_else_than_it_was(params, name):
    with pytest.raises(UsageError, match=rf"no value to call fit with again for {name}"):
        command(entry("interactive", "", ["python"], function="train:fit"), params=params)


@pytest.mark.parametrize("kind", ["script", "module", "command", "notebook", "interactive"])
def test_a_command_without_its_secret_is_not_started(kind):
    with pytest.raises(UsageError, match=r"a secret was taken out .* - type: mlobs reproduce RUN -- python"):
        command(entry(kind, is_redacted=True), executed=Path("/s/executed.py"))


def test_a_script_from_outside_of_the_captured_code_is_named():
    with pytest.raises(UsageError, match=r"/q/train\.py is not part of the captured code"):
        command(entry(target="/q/train.py", command=["python", "/q/train.py"]))
    with pytest.raises(UsageError, match="does not name its script"):
        command(entry(command=["python", "launcher"]))


def test_a_path_belongs_to_the_innermost_root_and_to_no_neighbour():
    both = restored(("/p", ""), ("/p/libs/core", "libs/core"), ("/q", "loose/q"))
    assert both.place_of("/p/libs/core/x.py") == HERE / "libs/core/x.py"
    assert both.place_of("/p/libs/other.py") == HERE / "libs/other.py"
    assert both.place_of("/q/m.py") == HERE / "loose/q/m.py"
    assert both.place_of("/p") == HERE
    assert both.place_of("/project/x.py") is None
    assert both.place_of("") is None
    assert both.place_of("relative.py") is None


def test_the_working_directory_is_its_place_or_an_empty_folder():
    otherwise = Path("/again/cwd")
    assert folder_of(entry(cwd="/p/sub", command=["python", "../train.py"]), restored(), otherwise) == (
        HERE / "sub"
    )
    assert folder_of(entry(cwd="/home/me", command=["python", "/p/train.py"]), restored(), otherwise) == (
        otherwise
    )
    assert folder_of({}, restored(), otherwise) == otherwise


def test_the_import_path_moves_with_the_code_and_mlobs_comes_last():
    roots = restored(("/p", ""), ("/q", "loose/q"))
    given = {"PYTHONPATH": os.pathsep.join(["/p/src", "/opt/lib", "", "src"])}
    assert import_path(given, roots, [], Path("/own")).split(os.pathsep) == [
        "/again/code/src",
        "/opt/lib",
        "src",
        "/again/code/loose/q",
        "/own",
    ]
    assert import_path({}, restored(), [], Path("/own")) == "/own"


def test_data_that_lay_in_the_code_or_below_the_old_folder_is_linked(tmp_path):
    old, code, cwd = tmp_path / "old", tmp_path / "code", tmp_path / "cwd"
    for folder in (old / "project/data", old / "work", code, cwd):
        folder.mkdir(parents=True)
    (old / "project/data/a.csv").write_text("a")
    (old / "work/b.csv").write_text("b")
    (tmp_path / "far.csv").write_text("c")
    roots = restored((str(old / "project"), ""), folder=code)
    facts = entry(
        cwd=str(old / "work"), target=str(old / "project/train.py"), command=["python", "../project/train.py"]
    )
    sources = [
        str(old / "project/data"),
        str(old / "work/b.csv"),
        str(tmp_path / "far.csv"),
        str(old / "work/gone"),
    ]
    assert absent(sources, facts, roots, cwd) == {
        code / "data": old / "project/data",
        cwd / "b.csv": old / "work/b.csv",
    }


def test_a_folder_of_which_git_holds_a_part_is_completed(tmp_path):
    old, code = tmp_path / "old", tmp_path / "code"
    for folder in (old / "data/train", code / "data"):
        folder.mkdir(parents=True)
    (old / "data/README").write_text("of old, edited since")
    (old / "data/train/x.csv").write_text("x")
    (code / "data/README").write_text("as recorded")
    facts = entry(cwd=str(old), target=str(old / "train.py"))
    found = absent([str(old / "data")], facts, restored((str(old), ""), folder=code), code)
    assert found == {code / "data/train": old / "data/train"}


@pytest.mark.parametrize(
    "typed",
    [
        ["{folder}/show.py", "--lr", "1"],
        ["-u", "show.py", "--lr", "1"],
        ["-m", "show", "--lr", "1"],
        ["-c", "import show", "--lr", "1"],
    ],
)
def test_a_real_program_started_in_a_real_way_starts_again_elsewhere(tmp_path, typed):
    """What `entry_facts` recorded of it is enough: its arguments, and its own place."""
    source = (
        "import json, sys\nfrom mlobs.repro.entry import entry_facts\n"
        "print(json.dumps([entry_facts(), sys.argv[1:]]))\n"
    )
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "show.py").write_text(source)
    before = _printed([sys.executable, *(one.format(folder=old) for one in typed)], old)
    roots = restored((str(old), ""), folder=new)
    again = command_of(before[0], roots, Path(sys.executable), {}, None)
    after = _printed(again, folder_of(before[0], roots, tmp_path / "cwd"))
    assert after[1][-2:] == before[1][-2:] == ["--lr", "1"]
    assert after[0]["kind"] == before[0]["kind"]
    assert after[0]["cwd"] == str(new)
    if before[0]["kind"] == "script":
        assert after[0]["target"] == str(new / "show.py")


def test_a_secret_on_the_command_line_is_not_in_the_facts():
    facts = entry_facts(["python", "train.py", "--api-key", "s3cr3t-value-1", "--lr", "1"], {})
    assert facts["is_redacted"]
    assert "s3cr3t" not in json.dumps(facts)
    assert not entry_facts(["python", "train.py", "--lr", "1"], {})["is_redacted"]


def _printed(typed, cwd):
    done = subprocess.run(typed, cwd=cwd, capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)
