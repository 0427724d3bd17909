"""A file that grows past its size holds two ideas: it is split by idea before that."""

import ast

from source_tree import PACKAGE, ROOT

MOST_FILE_LINES = 300
MOST_BODY_LINES = 45
LONG_BODY_LINES = 25  # worth a second look, not an error
FORBIDDEN = {"utils", "util", "common", "helpers", "base", "manager", "misc"}
FILES = sorted(PACKAGE.rglob("*.py"))


def test_no_file_is_longer_than_a_reader_keeps_in_mind() -> None:
    long = {str(path.relative_to(ROOT)): size for path in FILES if (size := lines(path)) > MOST_FILE_LINES}

    assert not long


def test_no_function_is_longer_than_a_screen() -> None:
    sizes = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": body_lines(node)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name: size for name, size in sizes.items() if size > LONG_BODY_LINES}
    print("\n".join(f"{size} lines: {name}" for name, size in sorted(long.items())))  # noqa: T201 - pytest -s shows it

    assert not {name: size for name, size in long.items() if size > MOST_BODY_LINES}


def test_no_module_has_a_name_that_means_everything() -> None:
    assert not [path for path in FILES if FORBIDDEN & set(path.with_suffix("").relative_to(PACKAGE).parts)]


def lines(path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
