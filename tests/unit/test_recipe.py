"""A run's recipe: the same for the same program, wherever it runs, and another for whatever differs."""

import os
import subprocess
import sys

import pytest
from msgspec.structs import replace
from programs_of_runs import CODE, MODULES, NATIVE, dataset, entry, losses, parts, program_run
from recorded import add_writer, open_run, start_of

import mlobs
from mlobs.events import Params, RunFinished, Snapshot
from mlobs.journal.store import Store
from mlobs.read.record import load_run
from mlobs.repro.parts import root_of
from mlobs.repro.recipe import MACHINE_TAG, RECIPE_TAG, recipe_of, recipe_tags


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create()
    return made


UNKNOWN = "modules: what was imported is not known, as the program did not come to its end"
UNREAD = {
    "path": "/home/a/project/keys.py",
    "place": "keys.py",
    "reason": "there is a secret in it",
    "digest": None,
}
LR = ("--lr", "0.1")
PARAMS = {"lr": 0.1, "layers": [64, 32], "eps": float("nan")}


def key_of(store, *events, snapshot=None, params=None, **facts):
    given = (dataset("train"), *events)
    record = program_run(store, *given, snapshot=snapshot, params=PARAMS | (params or {}), **facts)
    recipe = recipe_of(record)
    assert recipe.missing == ()
    return recipe.key


def test_the_same_program_has_the_same_key_in_another_folder_and_at_another_time(store):
    elsewhere = parts(
        entry=entry(
            "/mnt/b/checkout", command=["/opt/python", "-u", "/mnt/b/checkout/train.py", "--lr", "0.1"]
        ),
        code=CODE | {"path": "/mnt/b/checkout", "pack_bytes": 9, "commit": "c" * 40},
    )
    key = key_of(store)
    assert key.startswith("recipe1:")
    assert key_of(store, *losses(0.7), snapshot=elsewhere, at=90000.0, name="other", experiment="x") == key


def test_the_order_of_params_and_datasets_makes_no_other_recipe(store):
    keys = set()
    for names in (("a", "b"), ("b", "a")):
        given = [dataset(name, f"tfp1:{name}") for name in names]
        params = dict.fromkeys(names, 1)
        keys.add(key_of(store, *given, params=params))
    assert len(keys) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"lr": 0.2}},
        {"params": {"lr": "0.1"}},
        {"params": {"more": 1}},
        {"events": [dataset("test", "tfp1:9", context="test")]},
        {"events": [dataset("train", "tfp1:2")]},
        {"snapshot": parts(code=CODE | {"tree": "b" * 40})},
        {"snapshot": parts(code__libs=CODE | {"place": "libs", "tree": "b" * 40})},
        {"snapshot": parts(environment={"digest": "f" * 64})},
        {"snapshot": parts(seeds={"seed": 8})},
        {"snapshot": parts(seeds=None)},
        {"snapshot": parts(entry=entry(arguments=("--lr", "0.2")))},
        {"snapshot": parts(entry=entry(target="/home/a/project/other.py"))},
        {"snapshot": parts(entry=entry(target="/home/a/project/sub/train.py"))},
        {"snapshot": parts(entry=entry(cwd="/home/a/project/sub", command=["python3", "../train.py", *LR]))},
        {"snapshot": parts(entry=entry(command=["python3", "-O", "train.py", *LR]))},
        {"snapshot": parts(entry=entry(environment={"PYTHONHASHSEED": "7", "PYTHONPATH": "lib"}))},
        {"snapshot": parts(uncaptured={"files": [UNREAD | {"digest": "blake3:1"}]})},
        {"snapshot": parts(entry=entry(function="train:fit"))},
        {"snapshot": parts(entry=entry(environment={"PYTHONHASHSEED": "8"}))},
        {"snapshot": parts(entry=entry(environment={}))},
        {"facts": {"number": 2}},
        {"facts": {"world_size": 2}},
    ],
    ids=str,
)
def test_each_ingredient_makes_another_recipe(store, other):
    changed = key_of(
        store,
        *other.get("events", ()),
        snapshot=other.get("snapshot"),
        params=other.get("params"),
        **other.get("facts", {}),
    )
    assert changed != key_of(store)


def test_the_address_of_an_object_makes_no_other_recipe(store):
    keys = [key_of(store, params={"net": f"<Net object at 0x7f{end}>"}) for end in ("00", "ab")]
    assert keys[0] == keys[1]
    assert key_of(store, params={"net": "<Other object at 0x7f00>"}) != keys[0]


def test_a_notebook_is_its_cells_and_not_the_file_of_its_connection(store):
    def key(cells, connection):
        folder, writer = open_run(
            store,
            Params(1000.0, PARAMS),
            *parts(
                entry=entry(
                    kind="notebook",
                    target="/home/a/project/fit.ipynb",
                    command=["python3", "-m", "ipykernel_launcher", "-f", connection],
                )
            ),
        )
        ordinal = writer.keep_bytes(cells)
        writer.append(Snapshot(1005.0, "notebook", {"cells": 1}, ordinal))
        writer.append(RunFinished(1060.0, "FINISHED"))
        writer.close()
        return recipe_of(load_run(folder.run_id, store=store.path)).key

    first = key(b"x = 1\n", "/tmp/kernel-1.json")
    assert first is not None
    assert key(b"x = 1\n", "/tmp/kernel-2.json") == first
    assert key(b"x = 2\n", "/tmp/kernel-1.json") != first


@pytest.mark.parametrize(
    ("snapshot", "reasons"),
    [
        (parts(entry=None), ("entry: not captured",)),
        (parts(code="GitFailed: no index"), ("code: GitFailed: no index",)),
        (parts(code__libs="PermissionError: libs"), ("code/libs: PermissionError: libs",)),
        (parts(environment=None), ("environment: not captured",)),
        ([], ("entry: not captured", "code: not captured", "environment: not captured", UNKNOWN)),
        (parts(modules=None), (UNKNOWN,)),
        (
            parts(modules=MODULES | {"local": 9}),
            ("modules: 9 files were imported, and the first 1 are recorded",),
        ),
        (
            parts(modules=MODULES | {"changed": ["/home/a/project/m.py"]}),
            ("/home/a/project/m.py was edited after the program had begun",),
        ),
        (
            parts(
                code=CODE | {"warnings": ["changed after the start: m.py", "changed after the start: m.log"]}
            ),
            ("changed after the start: m.py",),
        ),
        (
            parts(uncaptured={"files": [UNREAD]}),
            ("/home/a/project/keys.py was imported and not captured: there is a secret in it",),
        ),
    ],
    ids=lambda one: str(one) if isinstance(one, tuple) else "",
)
def test_a_part_that_is_missing_leaves_no_key_and_says_why(store, snapshot, reasons):
    recipe = recipe_of(program_run(store, snapshot=snapshot))
    assert (recipe.key, recipe.missing) == (None, reasons)


@pytest.mark.parametrize("strength", ["stat", "name"])
def test_data_that_is_not_proven_leaves_no_key(store, strength):
    recipe = recipe_of(program_run(store, dataset("train", f"{strength}:1", strength)))
    assert (recipe.key, recipe.missing) == (None, (f"dataset train: {strength} only",))


@pytest.mark.parametrize("strength", ["content", "rows", "pinned"])
def test_data_that_is_proven_leaves_one(store, strength):
    assert recipe_of(program_run(store, dataset("train", f"{strength}:1", strength))).key is not None


def test_a_child_is_made_of_its_programs_snapshot_and_of_what_is_its_own(store):
    outer = program_run(store, params={"outer": 1})
    keys = []
    for lr in (0.1, 0.2, 0.1):
        child = program_run(store, snapshot=[], params={"lr": lr}, parent_run_id=outer.run_id)
        inner = program_run(store, snapshot=[], params={"lr": lr}, parent_run_id=child.run_id)
        assert root_of(inner).run_id == outer.run_id
        keys.append((recipe_of(child).key, recipe_of(inner).machine))
    assert keys[0] == keys[2] != keys[1]
    assert keys[0][1] == recipe_of(outer).machine is not None


def test_a_child_whose_parent_is_gone_has_no_recipe_and_no_fault(store):
    orphan = program_run(store, snapshot=[], parent_run_id="20200101-000000-000000-gone")
    assert recipe_of(orphan).key is None
    own = "20240101-000000-000000-loop"
    assert recipe_of(program_run(store, snapshot=[], run_id=own, parent_run_id=own)).key is None


def test_the_machine_is_its_kernels_and_threads(store):
    def machine(threads, **other):
        library = {"api": "openblas", "file": "libopenblas.so", "architecture": "Zen", "threads": threads}
        return recipe_of(
            program_run(store, snapshot=parts(native=NATIVE | {"libraries": [library]}, **other))
        )

    assert machine(2).machine == machine(2, code=CODE | {"tree": "b" * 40}).machine
    assert machine(2).machine != machine(1).machine
    assert machine(2).key == machine(1).key
    gpu = {"gpus": [{"index": 0, "name": "NVIDIA H100", "compute_capability": "9.0"}], "driver": "550"}
    assert machine(2, gpus=gpu).machine != machine(2).machine


def test_a_program_that_was_killed_has_neither_recipe_nor_machine(store):
    killed = "the program was killed"
    recipe = recipe_of(program_run(store, snapshot=parts(native=killed, modules=killed)))
    assert recipe == (None, None, (UNKNOWN,))


def test_a_run_that_was_resumed_has_no_recipe(store):
    record = program_run(store)
    again = start_of(record.run_id, 2000.0, attempt=2)
    add_writer(record.folder, again, *(replace(one, at=2001.0) for one in parts()))
    resumed = mlobs.load_run(record.run_id, store=store.path)
    assert recipe_of(resumed).missing == ("the run was resumed: 2 programs made it",)


def test_the_tags_name_what_is_known(store):
    record = program_run(store)
    tags = recipe_tags(record).values
    assert tags == {RECIPE_TAG: recipe_of(record).key, MACHINE_TAG: recipe_of(record).machine}
    assert recipe_tags(program_run(store, snapshot=parts(native=None, code=None))) is None
    assert recipe_tags(program_run(store, snapshot=parts(code=None))).values.keys() == {MACHINE_TAG}


def test_what_the_sender_records_in_a_journal_of_its_own_counts(store):
    record = program_run(store, snapshot=[one for one in parts() if one.part == "entry"])
    add_writer(record.folder, *(one for one in parts() if one.part != "entry"))
    again = mlobs.load_run(record.run_id, store=store.path)
    assert recipe_of(again).key == recipe_of(program_run(store)).key


_PROGRAM = """
import numpy
import mlobs
mlobs.seed_everything(7)
tracker = mlobs.Tracker(delivery="thread", repro="auto", finish_timeout_s=30)
with tracker.start_run("fit", params={"lr": 0.1}) as run:
    run.log_dataset("train", {"x": numpy.arange(3.0)})
"""


def test_a_real_program_has_one_recipe_in_two_folders(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOBS_")}
    tags = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "fit.py").write_text(_PROGRAM)
        environment["MLOBS_STORE"] = str(tmp_path / f"store-{name}")
        subprocess.run([sys.executable, "fit.py"], cwd=folder, env=environment, check=True, timeout=60)
        tags.append(mlobs.load_run("latest", store=environment["MLOBS_STORE"]).tags)
    for name in (RECIPE_TAG, MACHINE_TAG):
        assert tags[0][name] == tags[1][name]
