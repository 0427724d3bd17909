"""The public surface is one list."""

import ast

from source_tree import PACKAGE

import mlobs


def test_all_names_what_type_checkers_see() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    checked = next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = [(node.module, one.name, one.asname) for node in checked.body for one in node.names]  # type: ignore[attr-defined]

    assert sorted(name for _, name, _ in seen) == mlobs.__all__
    assert all(name == asname for _, name, asname in seen), "`as` is what makes a re-export public to pyright"
    assert {(module, name) for module, name, _ in seen if name != "backends"} == {
        (module, name) for name, module in mlobs._HOME.items()
    }


def test_every_public_name_is_there_and_is_the_one_of_its_module() -> None:
    for name in mlobs.__all__:
        found = getattr(mlobs, name)
        home = getattr(found, "__module__", None)
        if isinstance(found, type):
            assert home == mlobs._HOME[name], name

    assert dir(mlobs) == mlobs.__all__
    assert sorted(mlobs.__all__) == mlobs.__all__


def test_every_public_thing_says_what_it_does() -> None:
    silent = [name for name in mlobs.__all__ if name != "__version__" and not getattr(mlobs, name).__doc__]

    assert not silent
