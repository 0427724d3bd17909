from __future__ import annotations

import posixpath
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlobs.names import cut_name, escape_name, unescape_name

MLFLOW = r"[/\w.\- :]"
PATTERNS = [None, MLFLOW, r"[A-Za-z0-9_]", r"\w|/", r"[_x0-9A-F]"]

text = st.text(st.characters(exclude_categories=["Cs"]))
tricky = st.text(st.sampled_from("_x3A4F/. :a\n"))  # made of what escapes and paths are made of
names = text | tricky


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("loss", "loss"),
        ("val/loss", "val/loss"),
        ("loss%", "loss_x25_"),
        ("Verlust|größe", "Verlust_x7C_größe"),
        ("\N{GRINNING FACE}", "_x1F600_"),
        ("a\nb", "a_x0A_b"),
        ("_x3A_", "_x5F_x3A_"),
        ("w_x1_mean", "w_x1_mean"),
        ("/a", "_x2F_a"),
        ("a/", "a_x2F_"),
        ("a//b", "a/_x2F_b"),
        ("a/../b", "a/_x2E_./b"),
        (".", "_x2E_"),
        ("..hidden", "_x2E_.hidden"),
        (".hidden", ".hidden"),
        ("", "_x_"),
    ],
)
def test_a_name_is_written_in_the_allowed_characters(name: str, escaped: str) -> None:
    assert escape_name(name, MLFLOW, is_path=True) == escaped
    assert unescape_name(escaped) == name


@given(names, st.sampled_from(PATTERNS), st.booleans())
@example("_x41/", MLFLOW, True)
@example("_x41:", r"\w|/", False)
@example("_x_", None, False)
def test_every_name_comes_back(name: str, pattern: str | None, is_path: bool) -> None:
    assert unescape_name(escape_name(name, pattern, is_path=is_path)) == name


@given(names, names, st.sampled_from(PATTERNS), st.booleans(), st.none() | st.integers(12, 30))
def test_two_names_never_meet(
    one: str, other: str, pattern: str | None, is_path: bool, max_length: int | None
) -> None:
    def escaped(name: str) -> str:
        return escape_name(name, pattern, is_path=is_path, max_length=max_length)

    assert (escaped(one) == escaped(other)) == (one == other)


@given(names, st.sampled_from(PATTERNS), st.booleans(), st.none() | st.integers(1, 30))
def test_the_result_is_legal(name: str, pattern: str | None, is_path: bool, max_length: int | None) -> None:
    escaped = escape_name(name, pattern, is_path=is_path, max_length=max_length)

    assert pattern is None or all(re.fullmatch(pattern, character) for character in escaped)
    assert max_length is None or len(escaped) <= max_length
    if is_path:
        assert posixpath.normpath(escaped) == escaped != "."
        assert not escaped.startswith(("/", ".."))


@given(text)
def test_any_text_can_be_read_back_without_an_error(name: str) -> None:
    unescape_name(name)
    unescape_name(f"_x{name}_")


def test_a_code_point_that_does_not_exist_is_left_as_it_is() -> None:
    assert unescape_name("_xFFFFFF_") == "_xFFFFFF_"


def test_a_name_that_needs_nothing_is_the_same_object() -> None:
    name = "val/loss"
    assert escape_name(name, MLFLOW, is_path=True, max_length=250) is name


def test_a_long_name_ends_in_a_hash_that_no_release_may_change() -> None:
    assert escape_name("a" * 300, MLFLOW, max_length=20) == "aaaaaaaaaaa_" + "A5DE59A0"
    assert cut_name("loss", 4) == "loss"


def test_a_cut_never_leaves_half_an_escape() -> None:
    assert escape_name("ab:" + "c" * 50, r"\w", max_length=14).startswith("ab_")


def test_a_pattern_that_cannot_hold_escapes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"refuses '_xABCDEF'"):
        escape_name("loss", "[0-9]")
