"""Whatever an exception can say of itself, it comes out of its run, which has failed."""

import sys

import pytest

import mlobs
from mlobs.exits import ending


class Mute(Exception):
    def __str__(self):
        raise AttributeError("message")


class MuteToo(Mute):
    def __repr__(self):
        raise RuntimeError


class Dumb:
    def __repr__(self):
        raise AttributeError("message")


MUTE = [
    (Mute(7), "Mute: Mute(7)"),
    (MuteToo(), "MuteToo: <MuteToo whose repr fails: RuntimeError>"),
    (SystemExit(Dumb()), "sys.exit(<Dumb whose repr fails: AttributeError>)"),
]


@pytest.mark.parametrize(("error", "reason"), MUTE)
def test_an_exception_that_fails_to_say_what_it_is_comes_out_of_its_run(tmp_path, error, reason):
    tracker = mlobs.Tracker("unit", store=tmp_path / "store")
    with pytest.raises(type(error)) as caught, tracker.start_run() as run:
        raise error

    assert caught.value is error
    record = mlobs.load_run(run.id, store=tmp_path / "store")
    assert (record.status, record.reason) == ("FAILED", reason)


def test_an_exception_that_python_cannot_print_comes_out_of_its_run(tmp_path):
    error = SyntaxError("no rule", ("rules.txt", 1, 1, "abc"))
    error.text = 5
    tracker = mlobs.Tracker("unit", store=tmp_path / "store")
    with pytest.raises(SyntaxError) as caught, tracker.start_run() as run:
        raise error

    assert caught.value is error
    record = mlobs.load_run(run.id, store=tmp_path / "store")
    assert (record.status, record.reason) == ("FAILED", "SyntaxError: no rule (rules.txt, line 1)")
    assert "raise error" in ending(error).traceback


def test_sys_exit_raises_what_it_is_given(tmp_path):
    given = Dumb()
    with pytest.raises(SystemExit) as caught, mlobs.Tracker("unit", store=tmp_path / "store").start_run():
        sys.exit(given)

    assert caught.value.code is given


@pytest.mark.parametrize(
    ("code", "status", "exit_code"),
    [
        (None, "FINISHED", 0),
        (0, "FINISHED", 0),
        (False, "FINISHED", 0),
        (True, "FAILED", 1),
        (0.0, "FAILED", 1),
    ],
)
def test_the_code_that_ends_a_run_is_pythons(code, status, exit_code):
    end = ending(SystemExit(code))
    assert (end.status, end.exit_code) == (status, exit_code)
