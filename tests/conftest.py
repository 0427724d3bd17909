"""What holds for every test."""

import os

import pytest

from mlobs.finishing import Budget
from mlobs.program import program

# A snapshot starts a sender for each program, also without a backend. The tests of snapshots ask for it.
os.environ.setdefault("MLOBS_REPRO", "off")


@pytest.fixture(autouse=True)
def _a_budget_of_its_own():
    """Each test is a program of its own, as far as waiting for delivery goes: others have spent theirs."""
    program().budget = Budget()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed may be no UTF-8; a worker that hands it over as it is would end there."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
