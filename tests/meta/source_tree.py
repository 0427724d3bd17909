"""The package as text: its modules, and what each imports, wherever in it the import stands."""

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "mlobs"


@dataclass(frozen=True)
class Import:
    """One imported module. `is_eager`: at import time, not inside a function or for type checkers."""

    source: str
    target: str
    line: int
    is_eager: bool


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return {_dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def own_imports() -> list[Import]:
    """Every import of one module of the package by another."""
    known = modules()
    return [
        one
        for name, path in known.items()
        for one in imports(name, path, known)
        if one.target.partition(".")[0] == "mlobs"
    ]


def imports(name: str, path: Path, known: dict[str, Path]) -> list[Import]:
    """What a module imports: `from a import b` is `a.b` where that is a module, else `a`."""
    found: list[Import] = []

    def visit(node: ast.AST, *, is_eager: bool) -> None:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names=names):
                    found.extend(Import(name, one.name, child.lineno, is_eager) for one in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    assert level == 0, f"{path}:{child.lineno}: relative imports hide where an arrow points"
                    targets = {f"{module}.{one.name}" for one in names}
                    found.extend(
                        Import(name, target if target in known else str(module), child.lineno, is_eager)
                        for target in sorted(targets)
                    )
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    visit(child, is_eager=False)
                case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                    visit(child, is_eager=False)
                case _:
                    visit(child, is_eager=is_eager)

    visit(ast.parse(path.read_text(encoding="utf-8")), is_eager=True)
    return found


def is_standard(target: str) -> bool:
    """Tell whether a module belongs to the standard library."""
    return target.partition(".")[0] in sys.stdlib_module_names


def _dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
