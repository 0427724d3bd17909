"""Values of any library become plain ones, and a value that fails costs nobody else's."""

import argparse
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import time
from collections import namedtuple
from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlobs.errors import UsageError
from mlobs.values import flatten, is_same_param, meta_of, name_of, plain, scalar, step_number


class Tensor:
    """What torch.Tensor looks like from here; `size` is a method there."""

    def __init__(self, value, shape=()):
        self.value, self.shape = value, shape

    def item(self):
        if math.prod(self.shape) != 1:
            raise RuntimeError("a Tensor with several elements cannot be converted to Scalar")
        return self.value

    def size(self):
        return self.shape

    def __repr__(self):
        return f"tensor({self.value})"


class Color(str, enum.Enum):  # not StrEnum, whose str() differs: this is what configs written for 3.10 hold
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, 1.5),
        (2, 2.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(7), 7.0),
        (np.bool_(True), 1.0),
        (np.array(3.0), 3.0),
        (np.array([3.0]), 3.0),
        (np.float16(2.0), 2.0),
        (Tensor(4.0), 4.0),
        (Tensor(4.0, (1, 1)), 4.0),
        (pd.Series([1.0, 2.0]).mean(), 1.5),
        (pd.Series([5.0]), 5.0),
        (decimal.Decimal("0.25"), 0.25),
        (Level.HIGH, 3.0),
        (math.inf, math.inf),
        (-np.inf, -math.inf),
    ],
)
def test_a_number_of_any_library_is_a_float(value, expected):
    number = scalar("loss", value)

    assert type(number) is float
    assert number == expected


@pytest.mark.parametrize(
    "value", [math.nan, np.nan, np.float32("nan"), Tensor(math.nan), pd.Series([math.nan])]
)
def test_nan_stays_nan(value):
    assert math.isnan(scalar("loss", value))


@pytest.mark.parametrize(
    "value",
    [
        *("0.5", b"1", None, 1j, [0.5], {}, object(), pd.NA, pd.DataFrame({"a": [1]})),
        *(np.zeros(3), Tensor(0.0, (2,)), np.array(["a"])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(UsageError, match=r"metric 'loss' is .*expected a "):
        scalar("loss", value)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (3, 3),
        (-7, -7),
        (True, 1),
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (2.0, 2),
        (np.float32(4), 4),
        (Tensor(6), 6),
    ],
)
def test_a_step_is_any_whole_number(step, expected):
    number = step_number(step)

    assert type(number) is int
    assert number == expected


@pytest.mark.parametrize("step", [1.5, math.nan, math.inf, "3", None, [1], np.arange(2)], ids=repr)
def test_what_is_no_whole_number_is_no_step(step):
    with pytest.raises(UsageError, match="expected an integer"):
        step_number(step)


@pytest.mark.parametrize("name", ["loss", "loss/train", "näme 😀", "a\nb", " ", "../x", "a\0b", "x" * 10_000])
def test_a_name_has_any_characters(name):
    assert name_of(name) == name


def test_an_enum_that_is_a_string_is_its_value():
    assert name_of(Color.RED) == "red"
    assert plain({Color.RED: Color.RED}) == {"red": "red"}


@pytest.mark.parametrize("name", ["", None, 3, b"x", ("a",)], ids=repr)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(UsageError, match="expected a string that is not empty"):
        name_of(name)


def test_bytes_of_a_file_name_that_are_no_text_are_kept_readable():
    name = pathlib.Path("caf\udce9.bin")  # how Python reads a name in Latin-1

    assert plain(name) == "caf\\udce9.bin"
    plain(str(name)).encode("utf-8")


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    betas: tuple = (0.9, 0.999)


@dataclasses.dataclass
class Config:
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    layers: list = dataclasses.field(default_factory=lambda: [Optimizer("x", ())])


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped one is what users have


def test_configs_of_any_kind_become_dotted_names():
    (flat,) = flatten(
        {
            "config": Config(),
            "args": argparse.Namespace(lr=0.1, sub=argparse.Namespace(a=1)),
            "point": Point(1, 2),
            "deep": {"er": {"est": None}},
            "empty": {},
            5: "five",
            "dumped": SimpleNamespace(to_dict=lambda: {"a": 1}),
        }
    )

    assert flat == {
        "config.optimizer.name": "adam",
        "config.optimizer.betas": [0.9, 0.999],
        "config.layers": [{"name": "x", "betas": []}],
        "args.lr": 0.1,
        "args.sub.a": 1,
        "point.x": 1,
        "point.y": 2,
        "deep.er.est": None,
        "empty": {},
        "5": "five",
        "dumped.a": 1,
    }
    assert flatten(Config())[0]["optimizer.name"] == "adam"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pathlib.PurePosixPath("a/b"), "a/b"),
        (dt.date(2024, 1, 31), "2024-01-31"),
        (Level.HIGH, 3),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        (np.zeros((1000, 1000)), "ndarray[1000, 1000]"),
        (pd.DataFrame({"a": [1, 2]}), "DataFrame[2, 1]"),
        ({1, 2, 3}, [1, 2, 3]),
        (range(3), [0, 1, 2]),
        (2**70, str(2**70)),
        (int, "builtins.int"),
        (Tensor(0.5), "Tensor[]"),
        (1 + 2j, "(1+2j)"),
        (b"raw", "b'raw'"),
    ],
    ids=repr,
)
def test_a_value_is_what_json_knows_or_what_describes_it(value, expected):
    assert plain(value) == expected


def test_nan_and_infinity_are_params():
    assert math.isnan(flatten({"a": math.nan})[0]["a"])
    assert flatten({"a": math.inf}) == [{"a": math.inf}]


class Fails:
    """Everything that somebody else's object can do to who looks at it."""

    def to_dict(self):
        raise RuntimeError("no dump")

    @property
    def shape(self):
        raise RuntimeError("no shape")

    def __repr__(self):
        raise RuntimeError("no repr")


def test_an_object_that_fails_to_describe_itself_is_named_by_its_type():
    (flat,) = flatten({"bad": Fails(), "lr": 0.1, "more": [Fails()]})

    assert flat["lr"] == 0.1
    assert flat["bad"].startswith("<Fails")
    assert flat["more"][0].startswith("<Fails")


class Unset(Mapping):
    """A config that declares a field which nobody has set, as OmegaConf's do."""

    def __getitem__(self, key):
        if key == "missing":
            raise LookupError(key)
        return {"lr": 0.1}[key]

    def __iter__(self):
        return iter(["lr", "missing"])

    def __len__(self):
        return 2


def test_a_field_that_cannot_be_read_costs_no_other():
    unread = "<not to be read: LookupError>"
    assert flatten(Unset()) == [{"lr": 0.1, "missing": unread}]
    assert flatten({"config": Unset(), "a": 1}) == [{"config.lr": 0.1, "config.missing": unread, "a": 1}]


def test_values_of_names_that_come_again_are_kept():
    assert flatten({"a.b": 1, "a": {"b": 2, "c": 3}, 1: "int", "1": "str"}) == [
        {"a.b": 1, "a.c": 3, "1": "int"},
        {"a.b": 2, "1": "str"},
    ]


def test_an_object_that_holds_itself_is_described_once_and_soon():
    parent, child = {"name": "parent"}, {"name": "child"}
    parent |= {"child": child, "first": child, "self": parent}
    child |= {"parent": parent, "root": parent, "list": [parent, child]}

    started = time.perf_counter()
    (flat,) = flatten({"tree": parent})

    assert time.perf_counter() - started < 1
    assert flat["tree.child.name"] == flat["tree.first.name"] == "child"
    assert "not shown again" in flat["tree.child.parent"]


def test_the_callers_mapping_beside_an_event_is_plain():
    assert meta_of({1: np.float32(0.5), "path": pathlib.PurePosixPath("a")}) == {"1": 0.5, "path": "a"}
    assert meta_of(None) is None
    with pytest.raises(UsageError, match="meta is list"):
        meta_of([1])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        *((7, 7.0, True), (7, "7", True), (math.nan, math.nan, True), (True, 1, True), ([1], [1], True)),
        *((7, 8, False), ("a", "A", False), (0.1, 0.1000001, False)),
    ],
)
def test_equal_after_normalisation(one, other, same):
    assert is_same_param(one, other) is same


@pytest.mark.parametrize("number", [10**400, -(10**5000)], ids=["400 digits", "5000 digits"])
def test_a_number_beyond_the_floats_is_refused_with_the_remedy(number):
    with pytest.raises(UsageError, match=r"beyond the largest float.*log_param"):
        scalar("loss", number)

    assert isinstance(plain(number), str)


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1, 2**64, 1e30])
def test_a_step_beyond_64_bits_is_refused_with_what_is_expected(step):
    with pytest.raises(UsageError, match="within 64 bits"):
        step_number(step)


def test_the_largest_steps_are_taken():
    assert [step_number(step) for step in (2**63 - 1, -(2**63))] == [2**63 - 1, -(2**63)]
