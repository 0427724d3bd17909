"""The docs' grid is what the code does."""

from capabilities_page import parts, table


def test_the_grid_in_the_docs_is_up_to_date():
    _, shown, _ = parts()

    assert shown == table(), "type: python tests/meta/capabilities_page.py"
