"""Output as a person sees it once it stands still."""

import pytest

from mlobs.capturing_screen import MAX_LINE_CHARACTERS, Screen

CASES = {
    "lines": ("a\nb\n", ["a", "b"], []),
    "a line without its end": ("a\nb", ["a"], ["b"]),
    "a carriage return rewrites": ("10%\r50%\r100%\n", ["100%"], []),
    "a shorter rewrite leaves the rest": ("abcdef\rxy\n", ["xycdef"], []),
    "a rewrite that erases": ("abcdef\r\x1b[Kxy\n", ["xy"], []),
    "windows line ends": ("a\r\nb\r\n", ["a", "b"], []),
    "backspaces": ("ab\b\bxy\n", ["xy"], []),
    "colours are left out": ("\x1b[31mred\x1b[0m\n", ["red"], []),
    "a link's target is left out": ("\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\\n", ["text"], []),
    "empty lines are left out": ("\n\n  \na\n", ["a"], []),
    "a display of two lines": (
        "one 1\ntwo 1\n\x1b[2Aone 2\ntwo 2\nbelow\nmore\n",
        ["one 1", "two 1", "one 2", "two 2", "below", "more"],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "settled", "left"), CASES.values(), ids=CASES)
def test_lines_leave_the_screen_when_they_stand_still(text, settled, left):
    screen = Screen()

    assert (screen.write(text), screen.clear()) == (settled, left)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_it_does_not_matter_how_output_is_cut_into_pieces(size):
    text = "loading\r50%\rdone   \nnext\nlast"
    screen = Screen()
    lines = [line for at in range(0, len(text), size) for line in screen.write(text[at : at + size])]

    assert [*lines, *screen.clear()] == ["done", "next", "last"]


def test_output_without_line_ends_does_not_pile_up():
    screen = Screen()
    lines = [line for _ in range(100) for line in screen.write("x" * 10_000)]

    assert sum(map(len, lines)) + sum(map(len, screen.clear())) == 1_000_000
    assert max(map(len, lines)) <= MAX_LINE_CHARACTERS + 10_000


def test_a_line_without_its_end_does_not_pile_up_below_a_display_either():
    screen = Screen()
    screen.write("a\nb\n\x1b[2A")
    lines = [line for _ in range(100) for line in screen.write("x" * 10_000)]

    assert sum(map(len, lines)) + sum(map(len, screen.clear())) >= 1_000_000
    assert max(map(len, lines)) <= MAX_LINE_CHARACTERS + 10_000


def test_a_control_sequence_of_any_length_is_left_out():
    screen = Screen()

    assert screen.write("\x1b[" + "1" * 5000 + "A" + "text\n") == ["text"]


def test_a_display_that_redraws_itself_for_ever_keeps_its_size():
    screen = Screen()
    screen.write("a\nb\n")
    for number in range(2000):
        assert screen.write(f"\x1b[2A{number}\n{number}\n") == []

    assert screen.clear() == ["1999", "1999"]
