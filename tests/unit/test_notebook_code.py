"""The code of a notebook is what its kernel executed, in that order."""

import ast
import json

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mlobs.repro.notebooks import Notebook, executed_notebook

ASK = """
import json
from mlobs.repro.notebooks import executed_notebook
found = executed_notebook()
print(json.dumps([found.cells, str(found.path), found.is_out_of_order, found.script]))
"""
pytestmark = [
    pytest.mark.filterwarnings("ignore:Proactor event loop"),
    pytest.mark.filterwarnings("ignore:.*datetime.datetime.utcnow:DeprecationWarning"),
]


def executed(tmp_path, monkeypatch, written, order):
    """What a kernel that executed the cells in this order says of them; the last one asks."""
    path = tmp_path / "work.ipynb"
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, [*written, ASK])])
    nbformat.write(notebook, path)
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel():
        for number in [*order, len(written)]:
            cell = client.execute_cell(notebook.cells[number + 1], number + 1)
    cells, named, is_out_of_order, script = json.loads(cell["outputs"][0]["text"])
    assert named == str(path)
    return cells, is_out_of_order, script


def test_the_cells_are_there_as_they_ran_and_the_script_is_python(tmp_path, monkeypatch):
    written = ["%precision 3\nx = 1", "y = x + 1", "%%time\nz = 3", 'password = "hunter2hunter"']

    cells, is_out_of_order, script = executed(tmp_path, monkeypatch, written, [0, 1, 2, 3])

    assert [source for _number, source in cells[:3]] == written[:3]
    assert [number for number, _source in cells] == [1, 2, 3, 4, 5]
    assert not is_out_of_order
    assert "# %% [1]\npass  # %precision 3\nx = 1\n" in script
    assert "hunter2" not in script + json.dumps(cells)
    ast.parse(script)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("%%time\nvalue = 3", 3),
        ("%%capture output --no-stderr\nvalue = 4", 4),
        ("value = 1\n%%javascript\n", 1),
        ("%%bash\nvalue=7", None),
        ("value = 5\nif value:\n    %matplotlib inline", 5),
        ("value = (17\n    % 5)", 2),
        ("value = 6\n!pip list", 6),
    ],
)
def test_what_is_python_in_a_cell_runs_again(cell, value):
    names = {"value": None}

    exec(Notebook(((1, cell),), None, False).script, names)

    assert names["value"] == value


@pytest.mark.parametrize("order", [[1, 0], [0, 1, 1], [1]], ids=["turned round", "repeated", "left out"])
def test_another_order_than_that_of_the_file_is_seen(tmp_path, monkeypatch, order):
    cells, is_out_of_order, _script = executed(tmp_path, monkeypatch, ["x = 1", "y = 2"], order)

    assert [source for _number, source in cells[:-1]] == [["x = 1", "y = 2"][number] for number in order]
    assert is_out_of_order


def test_outside_of_a_notebook_there_is_none():
    assert executed_notebook() is None
