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
