"""A condition on runs as a text: `params.lr < 0.1 and metrics['val/acc'].max > 0.9`.

It has the form of a Python expression and is never run as one: it is parsed, and only what stands in this
module is understood. There are three answers, as in SQL: what asks for something that a run does not have is
neither true nor false, and `and`, `or`, `not` go on with that. A run is chosen if the whole is true.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, TypeAlias, get_args

from mlobs.errors import UsageError
from mlobs.events import Status
from mlobs.read.points import Summary
from mlobs.read.run_summary import RunSummary
from mlobs.read.where_values import ABSENT, comparable, compared, on_numbers, truth

Condition: TypeAlias = Callable[[RunSummary], bool]
Term: TypeAlias = Callable[[RunSummary], Any]

FACTS = (
    *("run_id", "experiment", "name", "status", "reason", "parent_run_id"),
    *("started", "ended", "duration_s", "is_stale"),
)
STATUSES: tuple[str, ...] = get_args(Status)
GROUPS = ("params", "metrics", "tags")
AGGREGATES = ("last", "min", "max", "mean", "first", "points", "last_step")
_EXAMPLE = "params.lr < 0.1 and metrics['val/acc'].max > 0.9"
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def condition(text: str) -> Condition:
    """Return the question whether a run fulfils the condition; it never raises.

    Names are `params`, `metrics`, `tags` (`params.lr`, `params['lr']`; `metrics.loss` is the last value,
    and has `.last`, `.min`, `.max`, `.mean`, `.first`, `.points`, `.last_step`), `name`, `experiment`,
    `status`, `run_id`, `reason`, `parent_run_id`, `started`, `ended` (compared with ISO 8601, or "7d" ago),
    `duration_s`, `is_stale`. Between them: comparisons, `in`, `and`, `or`, `not`, and arithmetic on numbers.

    Raises:
        UsageError: it is none; the message says where.
    """
    term, _ = _compiled(text)
    return lambda run: truth(term(run)) is True


def _compiled(text: str) -> tuple[Term, list[tuple[str, str]]]:
    try:
        tree = ast.parse(text.strip(), mode="eval")
        compiler = _Compiler(text.strip())
        return compiler.term(tree.body), compiler.names
    except SyntaxError as error:
        at = (error.offset or 1) - 1
        raise _error(text.strip(), at, f"{error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise UsageError("the condition is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{text!r} is no condition: {error}") from error  # a null byte in it


def names_in(text: str) -> list[tuple[str, str]]:
    """Return the params, metrics and tags that a condition asks for, as (group, name).

    Raises:
        UsageError: it is no condition.
    """
    return _compiled(text)[1]


class _Compiler:
    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[tuple[str, str]] = []  # group and name, of all that was compiled

    def term(self, node: ast.expr) -> Term:
        """Make the function that gives a node's value for a run; `ABSENT` where the run has none."""
        match node:
            case ast.BoolOp():
                return _joined([self.term(one) for one in node.values], decisive=isinstance(node.op, ast.Or))
            case ast.UnaryOp(op=ast.Not()):
                return _negated(self.term(node.operand))
            case ast.UnaryOp() if type(node.op) in _SIGNS:
                return _applied(on_numbers(_SIGNS[type(node.op)]), self.term(node.operand))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                sides = (self.term(node.left), self.term(node.right))
                return _applied(on_numbers(_ARITHMETIC[type(node.op)]), *sides)
            case ast.Compare():
                return self._comparison(node)
            case ast.List() | ast.Tuple() | ast.Set():
                return _listed([self.term(one) for one in node.elts])
            case ast.Constant() if isinstance(node.value, bool | int | float | str | None):
                return _always(node.value)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._reference(node)
            case _:
                raise self._refused(node, "is not understood here")

    def _comparison(self, node: ast.Compare) -> Term:
        operands = [node.left, *node.comparators]
        terms = [self.term(one) for one in operands]
        pairs = []
        for index, op in enumerate(node.ops):
            test = compared(op)
            if test is None:
                raise self._refused(operands[index + 1], "stands behind `is`; write == or in")
            self._check_moment(operands[index], operands[index + 1])
            if isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                self._check_status(operands[index], operands[index + 1])
            pairs.append(_applied(test, terms[index], terms[index + 1]))
        return pairs[0] if len(pairs) == 1 else _joined(pairs, decisive=False)

    def _check_moment(self, *sides: ast.expr) -> None:
        """Refuse a text that is compared with a time and is none, before any run is looked at."""
        if any(isinstance(one, ast.Name) and one.id in ("started", "ended") for one in sides):
            for one in sides:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    try:
                        comparable(one.value, is_moment=True)
                    except UsageError as error:
                        raise _error(self.text, one.col_offset, str(error)) from error

    def _check_status(self, *sides: ast.expr) -> None:
        """Refuse a text that `status` is compared with and that no run can have: it would choose nothing."""
        if not any(isinstance(one, ast.Name) and one.id == "status" for one in sides):
            return
        listed = sides[1].elts if isinstance(sides[1], ast.List | ast.Tuple | ast.Set) else []
        for one in (*sides, *listed):
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value not in STATUSES:
                raise self._refused(one, f"is no status; expected one of {', '.join(STATUSES)}")

    def _reference(self, node: ast.expr) -> Term:
        path: list[str] = []
        root = node
        is_quoted = False
        while not isinstance(root, ast.Name):
            match root:
                case ast.Attribute():
                    path.insert(0, root.attr)
                    root = root.value
                case ast.Subscript(slice=ast.Constant(value=str() as name)) if not is_quoted:
                    path.insert(0, name)
                    root, is_quoted = root.value, True
                    if not isinstance(root, ast.Name):
                        raise self._refused(node, "takes one name in brackets, right behind the group")
                case _:
                    raise self._refused(root, "is not understood here")
        return self._named(node, root.id, path, is_quoted=is_quoted)

    def _named(self, node: ast.expr, root: str, path: list[str], *, is_quoted: bool) -> Term:
        if root in FACTS and not path:
            return _fact(root)
        if root == "metrics" and path:
            if is_quoted and path[1:] and (len(path) > 2 or path[1] not in AGGREGATES):  # noqa: PLR2004 - name, aggregate
                raise self._refused(node, f"expects one of .{', .'.join(AGGREGATES)} behind the name")
            has_aggregate = len(path) > 1 and path[-1] in AGGREGATES
            aggregate = path.pop() if has_aggregate else "last"
            self.names.append((root, ".".join(path)))
            return _metric(".".join(path), aggregate)
        if root in GROUPS and (not is_quoted or len(path) == 1):
            self.names.extend([(root, ".".join(path))] if path else [])
            return _entry(root, ".".join(path)) if path else (lambda run: getattr(run, root))
        if root in GROUPS or root in FACTS:
            raise self._refused(node, "has nothing behind its name")
        meant = "" if path else f"; a param is params.{root}, a metric metrics.{root}, a text '{root}'"
        raise self._refused(node, f"is not known; names are {', '.join((*GROUPS, *FACTS))}{meant}")

    def _refused(self, node: ast.expr, why: str) -> UsageError:
        part = ast.get_source_segment(self.text, node) or type(node).__name__
        return _error(self.text, node.col_offset, f"`{part}` {why}")


def _error(text: str, at: int, why: str) -> UsageError:
    return UsageError(
        f"where: {why} (at character {at + 1} of {text!r}) - type a condition such as {_EXAMPLE!r}"
    )


def _always(value: Any) -> Term:
    return lambda _: value


def _fact(name: str) -> Term:
    def term(run: RunSummary) -> Any:
        value = getattr(run, name)
        return ABSENT if value is None else value

    return term


def _entry(group: str, name: str) -> Term:
    return lambda run: getattr(run, group).get(name, ABSENT)


def _metric(name: str, aggregate: str) -> Term:
    def term(run: RunSummary) -> Any:
        found: Summary | None = run.metrics.get(name)
        return ABSENT if found is None else getattr(found, aggregate)

    return term


def _listed(terms: list[Term]) -> Term:
    def term(run: RunSummary) -> Any:
        values = [one(run) for one in terms]
        return ABSENT if ABSENT in values else values

    return term


def _applied(function: Callable[..., Any], *terms: Term) -> Term:
    def term(run: RunSummary) -> Any:
        values = [one(run) for one in terms]
        if any(value is ABSENT for value in values):
            return ABSENT
        try:
            return function(*values)
        except (TypeError, ValueError, ArithmeticError):  # text and number, division by zero: no answer
            return ABSENT

    return term


def _negated(of: Term) -> Term:
    def term(run: RunSummary) -> Any:
        value = truth(of(run))
        return ABSENT if value is ABSENT else not value

    return term


def _joined(terms: list[Term], *, decisive: bool) -> Term:
    """`and` or `or`: the decisive value wins, also over what is absent."""

    def term(run: RunSummary) -> Any:
        result: Any = not decisive
        for one in terms:
            value = truth(one(run))
            if value is decisive:
                return decisive
            if value is ABSENT:
                result = ABSENT
        return result

    return term
