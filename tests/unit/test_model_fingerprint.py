"""Fingerprints of models: equal values are equal, every other value is another, and the part is named."""

import collections
import copy
import datetime as dt
import decimal
import enum
import functools
import io
import json
import pickle
import subprocess
import sys
import threading
import types
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import mlobs
from mlobs.repro import model_fingerprint as fingerprints
from mlobs.repro.model_fingerprint import diff_models, fingerprint_model
from mlobs.repro.number_arrays import digest_of_numbers

GOLDEN = Path(__file__).parents[1] / "fixtures" / "fingerprints" / "models.json"
STRUCTURED = np.array([(1, 2.5, True), (2, -0.0, False)], dtype=[("a", "i4"), ("b", "f8"), ("c", "?")])


class Color(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: float
    y: float


@dataclass
class Settings:
    rate: float = 0.1
    layers: list[int] = field(default_factory=lambda: [3, 1])


class Slotted:
    __slots__ = ("a", "b")


class Anything:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def looped() -> list[Any]:
    held: list[Any] = [1]
    held.append(held)
    return held


PLAIN = {
    "none": None, "true": True, "int": -5, "big": 2**100, "float": 0.1, "zero": 0.0, "minus zero": -0.0,
    "nan": float("nan"), "inf": float("inf"), "complex": 1 - 2j, "text": "naïve 😀", "surrogate": "\ud800",
    "bytes": b"\0a", "bytearray": bytearray(b"\0a"), "ellipsis": ..., "range": range(1, 9, 2),
    "date": dt.date(2024, 5, 1),
    "datetime": dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc),
    "naive": dt.datetime(2024, 5, 1, 12), "timedelta": dt.timedelta(days=-1, microseconds=3),  # noqa: DTZ001
    "time": dt.time(1, 2), "decimal": decimal.Decimal("1.10"), "list": [1, "a", None],
    "tuple": (1, "a", None), "set": {1, "a", 2.5}, "frozenset": frozenset({1, "a", 2.5}),
    "dict": {"b": 1, "a": [2, {}], 3: "c", None: 4, (1, 2): 5}, "empty list": [],
    "empty dict": {}, "loop": looped(),
    "slice": slice(1, None, 2), "class": collections.Counter, "builtin": len, "method": str.lower,
    "partial": functools.partial(int, base=2), "deque": collections.deque([1, 2], maxlen=3),
    "counter": collections.Counter("aab"), "module": json,
}  # fmt: skip
ARRAYS = {
    "f32": np.arange(6, dtype="f4").reshape(2, 3), "f64": np.array([0.0, -0.0, np.inf]),
    "i8": np.array([-1], "i1"),
    "i64": np.arange(3), "u16": np.array([7], "u2"), "bool": np.array([True, False]),
    "c64": np.array([1 + 2j], "c8"),
    "f16": np.array([1.5], "f2"), "scalar": np.float64(1.5), "0-d": np.array(1.5),
    "empty": np.zeros((0, 2)),
    "strings": np.array(["no", "yes"]), "byte strings": np.array([b"no", b"yes"]),
    "objects": np.array(["a", 1, None], object), "structured": STRUCTURED,
    "times": np.array(["2024-05-01T12", "NaT"], "M8[s]"), "spans": np.array([1, 2], "m8[D]"),
    "dtype": np.dtype("f4"), "ufunc": np.log1p, "random state": np.random.RandomState(7),
    "generator": np.random.default_rng(7), "masked": np.ma.array([1, 2], mask=[False, True]),
}  # fmt: skip


def text_of(value: Any) -> str:
    return fingerprint_model([value]).text  # in a list, since a text alone is a path


@pytest.mark.parametrize("name", [*PLAIN, *ARRAYS])
def test_the_encoding_is_frozen(name):
    golden = json.loads(GOLDEN.read_text())

    assert text_of({**PLAIN, **ARRAYS}[name]) == golden[name]


@pytest.mark.parametrize("name", ["f32", "f64", "i8", "i64", "u16", "bool", "c64", "f16", "0-d", "empty"])
def test_the_leaf_of_an_array_is_the_fingerprint_of_that_array(name):
    array = ARRAYS[name]

    assert f"afp1:{digest_of_numbers(array).hex()}" == mlobs.fingerprint(array).text


def test_every_value_has_a_fingerprint_of_its_own():
    found = collections.defaultdict(list)
    for name, value in {**PLAIN, **ARRAYS}.items():
        found[text_of(value)].append(name)

    assert [names for names in found.values() if len(names) > 1] == [["scalar", "0-d"]]


def test_the_digest_of_an_array_is_afp1_as_it_is_written_down():
    from blake3 import blake3

    body = (
        b"f32\0" + bytes([2, 0, 0, 0]) + bytes([2, *[0] * 7]) + bytes([3, *[0] * 7]) + ARRAYS["f32"].tobytes()
    )
    expected = blake3(body, derive_key_context="mlobs afp1").digest()

    assert digest_of_numbers(ARRAYS["f32"]) == expected
    assert fingerprint_model(ARRAYS["f32"]).text == f"mfp1:{expected.hex()}"
    assert fingerprint_model({"w": ARRAYS["f32"]}).leaves == {"$.w": expected.hex()[:32]}


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda array: array.astype(">f4"), lambda array: np.repeat(array, 2, axis=1)[:, ::2],
    lambda array: array[::-1][::-1],
])  # fmt: skip
def test_the_layout_of_an_array_does_not_count(layout):
    assert text_of(layout(ARRAYS["f32"])) == text_of(ARRAYS["f32"])


def test_the_bytes_between_fields_do_not_count():
    padded = np.dtype([("a", "i4"), ("b", "f8"), ("c", "?")], align=True)
    ones, zeros = (np.frombuffer(bytes([byte]) * padded.itemsize * 2, padded).copy() for byte in (255, 0))
    for array in (ones, zeros):
        for name in STRUCTURED.dtype.names:
            array[name] = STRUCTURED[name]

    assert ones.tobytes() != zeros.tobytes()
    assert text_of(ones) == text_of(zeros) == text_of(STRUCTURED)


def test_the_width_of_a_column_of_texts_does_not_count():
    assert text_of(np.array(["no", "yes"], "<U9")) == text_of(np.array(["no", "yes"]))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize(
    "value",
    [
        Color.RED, Point(1.0, 2.0), Settings(), collections.OrderedDict(b=1, a=2),
        collections.defaultdict(list, a=[1]), looped(), {"shared": [PLAIN["dict"]] * 2},
        ARRAYS["structured"], ARRAYS["random state"], ARRAYS["objects"],
        types.SimpleNamespace(a=1), Path("a/b"),
        pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["r", "s"]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_copy_is_equal(value, again):
    assert text_of(again(value)) == text_of(value)


def test_the_order_of_a_mapping_or_set_does_not_count():
    assert (
        text_of({"a": 1, "b": 2}) == text_of({"b": 2, "a": 1}) == text_of(collections.OrderedDict(b=2, a=1))
    )
    assert text_of(types.MappingProxyType({"a": 1, "b": 2})) == text_of({"a": 1, "b": 2})


def test_whether_equal_parts_are_one_object_does_not_count():
    part = [1.5, "a"]

    assert text_of([part, part]) == text_of([[1.5, "a"], [1.5, "a"]])


def test_parts_that_are_shared_many_times_are_walked_once():
    value: Any = Anything(a=np.ones(2))
    for _ in range(60):
        value = [value, value]

    assert fingerprint_model(value).seconds < 5  # 2**60 visits otherwise


def test_an_object_is_its_class_and_its_attributes():
    one, same, other = Slotted(), Slotted(), Slotted()
    one.a, same.a, other.a = 1, 1, 2

    assert text_of(one) == text_of(same)
    assert text_of(one) != text_of(other)
    assert text_of(Anything(a=1)) != text_of(types.SimpleNamespace(a=1))
    assert diff_models(fingerprint_model(Settings()), fingerprint_model(Settings(layers=[3, 2]))) == [
        "leaf $.layers[1] differs"
    ]


def test_a_function_without_a_lasting_name_is_what_it_does():
    def times(factor):
        return lambda value: value * factor

    def also_times(factor):
        return lambda value: value * factor

    assert text_of(times(2)) == text_of(also_times(2))
    assert text_of(times(2)) != text_of(times(3))
    assert text_of(lambda: 1) != text_of(lambda: 2)
    assert text_of(np.median) != text_of(np.mean)


def test_locks_and_weak_references_have_no_value():
    held = Anything()

    assert text_of(threading.Lock()) == text_of(threading.Lock())
    assert text_of(weakref.ref(held)) == text_of(weakref.ref(Color))


def test_one_unit_in_the_last_place_is_seen_and_named():
    weights = {f"layer{i}.weight": np.linspace(0, 1, 50, dtype="f4") for i in range(4)}
    changed = copy.deepcopy(weights)
    changed["layer2.weight"][31] = np.nextafter(changed["layer2.weight"][31], np.float32(2))

    assert diff_models(fingerprint_model(weights), fingerprint_model(changed)) == [
        "leaf $.layer2.weight differs"
    ]


def test_what_cannot_be_read_is_named_by_its_place():
    model = Anything(steps=[("file", io.TextIOWrapper(io.BytesIO()))])

    with pytest.raises(
        mlobs.UsageError, match=r"^\$\.steps\[0\]\[1\] is of _io\.TextIOWrapper, whose value cannot"
    ):
        fingerprint_model(model)


def test_a_number_without_a_fixed_width_is_refused_rather_than_guessed():
    with pytest.raises(mlobs.UsageError, match=r"\$\.w is of numpy.ndarray.*at most 64 bits"):
        fingerprint_model({"w": np.ones(2, np.longdouble)})


def test_an_endless_model_is_refused():
    value: Any = []
    for _ in range(5_000):
        value = [value]

    with pytest.raises(mlobs.UsageError, match="nested deeper"):
        fingerprint_model(value)


def test_objects_that_all_know_each_other_are_refused_rather_than_walked_for_ever():
    people = [Anything(number=i) for i in range(12)]
    for one in people:
        one.friends = people

    few = Anything(first=people[0])
    assert text_of(few) == text_of(copy.deepcopy(few))
    for one in people:
        one.friends = [other for other in people if other is not one]
    with pytest.raises(mlobs.UsageError, match="refers back to itself in too many ways"):
        fingerprint_model(people)


def test_keys_that_know_what_holds_them_are_walked_where_they_stand():
    def family(*, is_turned):
        parent, key = Anything(name="parent"), Anything(name="key")
        key.parent = parent
        parent.weights = {key: 1}
        both = [("weights", parent.weights), ("again", [key])]
        return Anything(**dict(both[::-1] if is_turned else both))

    assert text_of(family(is_turned=False)) == text_of(family(is_turned=True))


def test_a_chain_of_objects_may_be_long():
    value = Anything(next=None)
    for _ in range(90):
        value = Anything(next=value)

    assert fingerprint_model(value).leaves["$" + ".next" * 91]


def test_a_vocabulary_is_one_leaf():
    words = {f"word{i}": i for i in range(5_000)}

    assert list(fingerprint_model({"words": words, "idf": np.ones(3)}).leaves) == ["$.words", "$.idf"]


def test_the_deepest_leaves_are_put_together_when_there_are_too_many():
    model = {
        "head": np.ones(2),
        "trees": [{"left": np.ones(1), "right": np.full(1, i)} for i in range(1_500)],
    }
    changed = copy.deepcopy(model)
    changed["trees"][7]["left"][0] = 2

    one, other = fingerprint_model(model), fingerprint_model(changed)

    assert len(one.leaves) == 1_501 < fingerprints.MAX_LEAVES
    assert list(one.leaves)[:2] == ["$.head", "$.trees[0]"]
    assert diff_models(one, other) == ["leaf $.trees[7] differs"]


def test_many_differences_are_counted():
    one, other = (fingerprint_model([np.full(1, i + start) for i in range(80)]) for start in (0, 1))

    lines = diff_models(one, other)

    assert lines[0] == "leaf $[0] differs"
    assert lines[50:] == ["and 30 more"]


def test_parts_of_one_model_alone_are_named():
    one, other = fingerprint_model({"a": 1, "b": 2}), fingerprint_model({"a": 1, "c": 2})

    assert diff_models(one, other) == ["leaf $.b only in the first", "leaf $.c only in the second"]
    assert "not how they are held" in diff_models(fingerprint_model([1]), fingerprint_model((1,)))[0]
    assert diff_models(one, one) == []


@pytest.mark.parametrize(("file", "problem"), [
    ("model.pkl", "pickles .* are never loaded"), ("model.joblib", "never loaded"),
    ("model.npy", "cannot be read as"),
    ("model.safetensors", "cannot be read as"), ("absent.npz", "does not exist"), (".", "is a folder"),
])  # fmt: skip
def test_a_file_that_is_not_read_says_why(tmp_path, file, problem):
    if file.startswith("model"):
        (tmp_path / file).write_bytes(pickle.dumps([print]))

    with pytest.raises(mlobs.UsageError, match=problem):
        fingerprint_model(tmp_path / file)


def test_a_file_of_arrays_equals_the_arrays(tmp_path):
    arrays = {"w": ARRAYS["f32"], "b": ARRAYS["f64"]}
    np.savez(tmp_path / "w.npz", **arrays)
    np.save(tmp_path / "w.npy", arrays["w"])

    assert fingerprint_model(str(tmp_path / "w.npz")).text == fingerprint_model(arrays).text
    assert fingerprint_model(tmp_path / "w.npy").text == fingerprint_model(arrays["w"]).text


def test_safetensors_are_read_without_their_package(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "h": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    }
    text = json.dumps(header).encode()
    content = ARRAYS["f32"].tobytes() + np.array([0x3F80, 0xBF80], "<u2").tobytes()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content)

    leaves = fingerprint_model(tmp_path / "w.safetensors").leaves

    assert leaves["$.w"] == digest_of_numbers(ARRAYS["f32"]).hex()[:32]
    assert leaves["$.h"] == digest_of_numbers(np.array([0x3F80, 0xBF80], "<u2"), "bf16").hex()[:32]


def test_a_process_that_was_forked_fingerprints_large_arrays_too():
    program = (
        "import os, numpy as np; from mlobs.repro.model_fingerprint import fingerprint_model as f\n"
        "big = np.zeros(8 << 20, np.uint8); f(big); child = os.fork()\n"
        "if child == 0: f(big); os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])"
    )
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("this platform does not fork")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == "0"


def test_frames_are_their_values_and_not_their_blocks():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    pieces = pd.concat([frame[["a"]], frame[["b"]]], axis=1)

    assert text_of(frame) == text_of(pieces)
    assert text_of(frame) != text_of(frame.rename(columns={"a": "z"}))
    assert text_of(frame["a"]) != text_of(frame["b"].rename("a"))
    assert text_of(pd.Series(["x", "y", "x"], dtype="category")) != text_of(pd.Series(["x", "y", "x"]))
    assert text_of(pd.Series([1, None], dtype="Int64")) != text_of(pd.Series([1, 2], dtype="Int64"))
    assert text_of(pd.MultiIndex.from_product([[1, 2], ["a"]])) != text_of(
        pd.MultiIndex.from_product([[1], ["a"]])
    )
    assert text_of(pd.date_range("2024", periods=2, tz="UTC")) != text_of(
        pd.date_range("2025", periods=2, tz="UTC")
    )
    assert text_of(pd.RangeIndex(3)) != text_of(pd.RangeIndex(4))


def test_sparse_matrices_are_their_entries():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rows, columns, values = np.array([1, 0, 0]), np.array([2, 1, 0]), np.array([3.0, 2.0, 1.0])
    built = scipy_sparse.csr_matrix((values, (rows, columns)), shape=(2, 3))
    unsorted = scipy_sparse.csr_matrix(
        (np.array([2.0, 1.0, 3.0]), np.array([1, 0, 2]), np.array([0, 2, 3])), shape=(2, 3)
    )

    assert text_of(built) == text_of(unsorted)
    assert text_of(built) != text_of(built.tocsc())
    assert text_of(built) != text_of(built * 2)
