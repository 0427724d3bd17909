"""What holds for every test."""

import pytest

from mlobs.finishing import Budget
from mlobs.program import program


@pytest.fixture(autouse=True)
def _a_budget_of_its_own():
    """Each test is a program of its own, as far as waiting for delivery goes: others have spent theirs."""
    program().budget = Budget()
