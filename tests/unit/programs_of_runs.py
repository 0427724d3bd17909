"""Runs with a snapshot of their program, made by the real writer."""

from recorded import record_run

import mlobs
from mlobs.events import Dataset, Metrics, ModelFingerprint, Params, Snapshot
from mlobs.journal.store import Store

NATIVE = {"cpu": {"machine": "x86_64", "vendor": "AuthenticAMD", "isa": ["avx2"]}}
MODULES = {"local": 1, "loose": [], "changed": [], "own": {"/home/a/project": ["train.py"]}}
CODE = {"path": "/home/a/project", "place": "", "tree": "a" * 40, "kind": "plain"}


def entry(folder="/home/a/project", arguments=("--lr", "0.1"), **facts):
    given = {
        "kind": "script",
        "target": f"{folder}/train.py",
        "cwd": folder,
        "executable": "/usr/bin/python3",
        "command": ["python3", "train.py", *arguments],
        "is_redacted": False,
        "environment": {"PYTHONHASHSEED": "7"},
    }
    return given | facts


def parts(**other):
    """The parts of a snapshot; None leaves one out, a text is the reason why it is missing."""
    facts = {
        "entry": entry(),
        "code": CODE,
        "environment": {"digest": "e" * 64, "python": "CPython 3.11.7", "packages": 3},
        "native": NATIVE,
        "modules": MODULES,
        "seeds": {"seed": 7, "covered": ["random"]},
    }
    facts |= {name.replace("__", "/"): value for name, value in other.items()}
    return [
        Snapshot(1001.0, part, {}, missing=value) if isinstance(value, str) else Snapshot(1001.0, part, value)
        for part, value in facts.items()
        if value is not None
    ]


def program_run(store: Store, *events, snapshot=None, params=None, at=1000.0, **facts):
    """Record a whole run with its snapshot, and read it."""
    given = [Params(at, params)] if params else []
    folder = record_run(store, *given, *(parts() if snapshot is None else snapshot), *events, at=at, **facts)
    return mlobs.load_run(folder.run_id, store=store.path)


def losses(*values, name="loss", first=0):
    return [Metrics(1002.0, step, {name: value}) for step, value in enumerate(values, first)]


def model(text="m1", name="net", leaves=None, step=None):
    return ModelFingerprint(1003.0, name, f"mfp1:{text}", "mfp1", leaves or {"$.w": text}, step)


def dataset(name="train", text="tfp1:1", strength="content", **facts):
    return Dataset(1001.5, name, facts.pop("version", None), text, strength, **facts)
