"""A model's value, walked down to scalars and arrays: equal values have equal digests, in any process.

No byte of a pickle and no identity of an object is looked at: an object is its class and its state, a mapping
its items whatever their order. docs/reference/model-fingerprints.md freezes the encoding as mfp1.
"""

from __future__ import annotations

import copyreg
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from mlobs.errors import UsageError
from mlobs.repro.model_frameworks import plain
from mlobs.repro.model_names import Named, name_of
from mlobs.repro.model_numpy import numpy_way
from mlobs.repro.model_scalars import SCALARS, digest, qualified
from mlobs.repro.number_arrays import TaggedArray, digest_of_numbers

MAX_DEPTH = 100  # of nesting; each level takes up to eight frames, of the 1,000 that Python allows
MANY = 64  # a container of more scalars than this is one leaf: a vocabulary is a value, not 50,000 parts
MAX_AGAIN = 100_000  # some 3 s; twelve objects that all know each other would be walked in 12! ways
MAX_SIZE = 100_000  # a part with more leaves is one: a list of itself twice, 60 times over, would have 2**60
VOLATILE = frozenset(
    {"_sklearn_version", "_stop_words_id", "refit_time_"}
)  # differ though the model does not
_CLOCKS = ("_fit_time", "_score_time")  # columns of `cv_results_` that are read off a clock
_WITHOUT_VALUE = frozenset({  # what belongs to the process and not to the model: the class alone counts
    "_thread.lock", "_thread.RLock", "_thread._local", "threading.Condition", "threading.Event",
    "threading.Semaphore", "threading.BoundedSemaphore", "weakref.ReferenceType", "weakref.WeakMethod",
    "weakref.ProxyType", "weakref.CallableProxyType", "weakref.WeakValueDictionary",
    "weakref.WeakKeyDictionary", "_weakrefset.WeakSet",
})  # fmt: skip


class Node(NamedTuple):
    """A value that was walked; `children` are its parts by label, none if it is a leaf.

    `scalars` counts them if it holds nothing else, and is 0 otherwise; `size` counts leaves. `reach` is the
    depth of the outermost value that it or a part refers back to, MAX_DEPTH if none does.
    """

    digest: bytes
    children: tuple[tuple[str, Node], ...] = ()
    scalars: int = 0
    size: int = 1
    reach: int = MAX_DEPTH


class Walk:
    """One walk over one model."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._open: dict[int, int] = {}  # identity -> depth of the values that are being walked
        self._done: dict[int, tuple[Any, Node]] = {}  # the value is kept, lest another gets its identity
        self._again = 0  # values inside cycles that were walked: each way to one is walked anew

    def node(self, value: Any, label: str = "") -> Node:
        """Walk a value, which the value above it holds under this label.

        Raises:
            UsageError: some part has no value that can be read; the message names it.
        """
        encode = SCALARS.get(type(value))
        if encode is not None:
            return Node(encode(value), scalars=1)
        if id(value) in self._done:
            return self._done[id(value)][1]
        depth = len(self._path)
        if id(value) in self._open:
            above = self._open[id(value)]
            return Node(digest("cycle", str(depth - above).encode()), reach=above)
        if depth >= MAX_DEPTH:
            raise UsageError(f"{self._here(label)[:200]} is nested deeper than {MAX_DEPTH} levels{_ADVICE}")
        self._path.append(label)
        self._open[id(value)] = depth
        try:
            found = self._walk(value)
        finally:
            self._path.pop()
            del self._open[id(value)]
        if found.reach == MAX_DEPTH:  # else what it is depends on where it stands
            self._done[id(value)] = (value, found)
            return found
        self._again += 1
        if self._again > MAX_AGAIN:
            raise UsageError(f"{self._here(label)[:200]} refers back to itself in too many ways{_ADVICE}")
        return found

    def _walk(self, value: Any) -> Node:
        cls = type(value)
        if cls in _MAPPINGS:
            return self._mapping(value)
        if cls is list or cls is tuple:
            return self._sequence(cls.__name__, value)
        if cls is set or cls is frozenset:
            return self._set(cls.__name__, value)
        if isinstance(value, TaggedArray):
            try:
                return Node(digest_of_numbers(value.array, value.kind or None))
            except TypeError as error:
                raise self._unreadable(value, error) from error
        if isinstance(value, Named):
            return self._named(value)
        if qualified(cls) in _WITHOUT_VALUE:
            return Node(digest("without value", qualified(cls).encode()))
        return self._read(value)

    def _read(self, value: Any) -> Node:
        """What is read by knowing its library, by its name, or as pickle would take it apart."""
        for way in (numpy_way, plain, name_of):
            try:
                found = way(value)
            except Exception as error:
                raise self._unreadable(value, error) from error
            if isinstance(found, bytes):
                return Node(found)
            if found is not None:
                return self._walk(found)
        names = getattr(value, "_fields", None)
        if isinstance(value, tuple) and isinstance(names, tuple):
            fields = dict(zip(names, value, strict=False))
            return self._named(Named(f"namedtuple {qualified(type(value))}", fields))
        return self._reduced(value)

    def _reduced(self, value: Any) -> Node:
        try:
            reduced = _reduce(value)
        except Exception as error:
            raise self._unreadable(value, error) from error
        if isinstance(reduced, str):
            return Node(digest("global", f"{qualified(type(value))} {reduced}".encode()))
        made, args, state, items, pairs = _of_five(reduced)
        if any(made is new for new in _NEW) and args and isinstance(args[0], type):
            made, args = args[0], args[1:]
        children = [(".__class__", self.node(made, ".__class__"))]
        children += [(".__args__", self.node(args, ".__args__"))] if args else []
        children += self._state(type(value), state)
        body, reach = self._pairs(children), MAX_DEPTH
        for tag, listed in (("items", list(items or ())), ("pairs", dict(pairs or ()))):
            if listed:
                found = self.node(listed)
                reach = min(reach, found.reach)
                body.append(digest("str", tag.encode()) + found.digest)
                children += found.children or [(f".__{tag}__", found)]
        held = _holder(digest("object", b"".join(sorted(body))), children, is_open=True)
        return held._replace(reach=min(reach, held.reach))

    def _state(self, cls: type, state: Any) -> list[tuple[str, Node]]:
        """The attributes of an object, or else its state under one label."""
        if state is None:
            return []
        is_of_slots = isinstance(state, tuple) and len(state) == 2 and not hasattr(cls, "__setstate__")  # noqa: PLR2004
        parts = state if is_of_slots else (state,)
        held = [part for part in parts if isinstance(part, dict)]
        if len(held) < sum(part is not None for part in parts) or not all(
            type(k) is str for p in held for k in p
        ):
            return [(".__state__", self.node(state, ".__state__"))]
        attributes = {name: one for part in held for name, one in part.items() if name not in VOLATILE}
        results = attributes.get("cv_results_")
        if isinstance(results, Mapping) and cls.__module__.startswith("sklearn."):
            attributes["cv_results_"] = {k: v for k, v in results.items() if not str(k).endswith(_CLOCKS)}
        return [(label_of(name), self.node(one, label_of(name))) for name, one in attributes.items()]

    def _named(self, value: Named) -> Node:
        found = self._mapping(value.parts)
        return found._replace(digest=digest("named", value.kind.encode() + b"\0" + found.digest), scalars=0)

    def _mapping(self, value: Mapping[Any, Any]) -> Node:
        children, body, reach = [], [], MAX_DEPTH
        for key, one in value.items():
            label = label_of(key)
            found, of_key = self.node(one, label), self.node(key, f"{label}(key)")
            reach = min(reach, of_key.reach)
            body.append(of_key.digest + found.digest)
            children.append((label, found))
        held = _holder(digest("dict", b"".join(sorted(body))), children)
        return held._replace(reach=min(reach, held.reach))

    def _sequence(self, tag: str, value: Iterable[Any]) -> Node:
        children = [(f"[{i}]", self.node(one, f"[{i}]")) for i, one in enumerate(value)]
        return _holder(digest(tag, b"".join(one.digest for _, one in children)), children)

    def _set(self, tag: str, value: Iterable[Any]) -> Node:
        found = [self.node(one, "{}") for one in value]
        reach = min((one.reach for one in found), default=MAX_DEPTH)
        return Node(digest(tag, b"".join(sorted(one.digest for one in found))), reach=reach)

    @staticmethod
    def _pairs(children: Iterable[tuple[str, Node]]) -> list[bytes]:
        return [digest("str", label.encode("utf-8", "surrogatepass")) + one.digest for label, one in children]

    def _here(self, label: str = "") -> str:
        return "$" + "".join(self._path) + label

    def _unreadable(self, value: Any, error: Exception) -> UsageError:
        reason = str(error).strip().partition("\n")[0]
        of = qualified(type(value))
        return UsageError(f"{self._here()} is of {of}, whose value cannot be read: {reason}{_ADVICE}")


_ADVICE = " - take it out of the model, or pass a part of the model, such as its weights"
_MAPPINGS = (dict, OrderedDict, MappingProxyType)
_NEW = (getattr(copyreg, "__newobj__"), getattr(copyreg, "__newobj_ex__"))  # noqa: B009 - a class would mangle it


def label_of(key: Any) -> str:
    """How a key or an attribute is written in a path: `.name`, or `[repr]` of other scalars."""
    if isinstance(key, str):
        return f".{key}" if len(key) <= 80 else f".{key[:60]}…{SCALARS[str](key).hex()[:8]}"  # noqa: PLR2004
    if key is None or isinstance(key, bool | int | float | bytes):
        return f"[{key!r}]"[:80]
    return f"[{type(key).__name__}]"


def _reduce(value: Any) -> Any:
    """Take an object apart as pickle would, by its own methods and those that `copyreg` knows."""
    registered = copyreg.dispatch_table.get(type(value))
    reduced = registered(value) if registered else value.__reduce_ex__(2)
    if not isinstance(reduced, str | tuple):
        raise TypeError(f"__reduce_ex__ returned {type(reduced).__name__}")
    return reduced


def _of_five(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """What is called, its arguments, the state, the items and the pairs; None for what was left out."""
    return (*reduced[:5], *[None] * (5 - len(reduced[:5])))


def _holder(found: bytes, children: list[tuple[str, Node]], *, is_open: bool = False) -> Node:
    """The node of a container; one with many scalars and nothing else keeps no leaves of them."""
    reach = min((one.reach for _, one in children), default=MAX_DEPTH)
    scalars = (
        0 if is_open or not all(one.scalars for _, one in children) else sum(s.scalars for _, s in children)
    )
    size = sum(one.size for _, one in children)
    is_leaf = scalars > MANY or size > MAX_SIZE or not children
    return Node(found, () if is_leaf else tuple(children), scalars, 1 if is_leaf else size, reach)
