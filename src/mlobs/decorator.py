"""The `@track` decorator: a call of a train function becomes a run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import numbers
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

from mlobs import current
from mlobs.call_data import datasets_in, models_in
from mlobs.errors import UsageError
from mlobs.exits import ending
from mlobs.run import Run, current_run

Function = TypeVar("Function", bound=Callable[..., Any])
LogReturn: TypeAlias = Literal["metrics", "models", "all"] | None
Start: TypeAlias = Callable[[str, Mapping[str, Any], str], Run]  # of a name, params and the function
_SKIPPED = ("self", "cls")
_MAX_ITEMS = (
    1000  # of a collection that is a parameter: nobody compares longer ones, and they take 0.7 us an item
)


def tracked(
    function: Function,
    start: Start,
    *,
    name: str | None,
    log_return: LogReturn,
) -> Function:
    """Wrap a function so that each call is a run; `start` opens it when there is no current one."""
    if not callable(function):
        raise UsageError(f"track got {function!r}; expected a function - type: @track(name=...)")
    call = _Call(function, start, name or str(getattr(function, "__name__", "run")), log_return)
    if inspect.isasyncgenfunction(function):
        wrapper = call.async_generator()
    elif inspect.iscoroutinefunction(function):
        wrapper = call.coroutine()
    elif inspect.isgeneratorfunction(function):
        wrapper = call.generator()
    else:
        wrapper = call.plain()
    return functools.wraps(function)(wrapper)  # type: ignore[return-value]


class _Call:
    """What the four kinds of function share: the run's opening, its arguments and its result."""

    def __init__(
        self,
        function: Callable[..., Any],
        start: Start,
        name: str,
        log_return: LogReturn,
    ) -> None:
        self._function, self._start, self._name, self._log_return = function, start, name, log_return
        self._signature = inspect.signature(function)
        self._takes_run = "run" in self._signature.parameters

    def plain(self) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            run, args, kwargs = self._open(args, kwargs)
            with run:
                return self._keep_result(run, self._function(*args, **kwargs))

        return wrapper

    def coroutine(self) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            run, args, kwargs = self._open(args, kwargs)
            with _Unwaited(run):
                return self._keep_result(run, await self._function(*args, **kwargs))

        return wrapper

    def generator(self) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            run, args, kwargs = self._open(args, kwargs)
            with run, _left(run):
                return self._keep_result(run, (yield from _resumed(self._function(*args, **kwargs), run)))

        return wrapper

    def async_generator(self) -> Callable[..., Any]:
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            run, args, kwargs = self._open(args, kwargs)
            with _Unwaited(run), _left(run):
                inner = self._function(*args, **kwargs)
                resume: Callable[..., Any] = inner.asend
                value: Any = None
                while True:
                    try:
                        with _current(run):
                            item = await resume(value)
                    except StopAsyncIteration:
                        return
                    try:
                        value = yield item
                        resume = inner.asend
                    except GeneratorExit:
                        with _current(run):
                            await inner.aclose()
                        raise
                    except BaseException as error:
                        resume, value = inner.athrow, error

        return wrapper

    def _open(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Run, tuple[Any, ...], dict[str, Any]]:
        """Open the run with the call's arguments as params, and put it where the function takes it."""
        bound = self._signature.bind_partial(*args, **kwargs)  # what is missing, the call itself complains of
        complete = self._signature.bind_partial(*args, **kwargs)
        complete.apply_defaults()
        given = complete.arguments.get("run")
        outer = given if isinstance(given, Run) else current_run()
        params = self._params(complete.arguments)
        run = self._opened(outer, params)
        try:
            run.log_inputs(datasets_in(self._named(complete.arguments)))
        except BaseException as error:  # nobody has the run yet who could end it
            run.__exit__(type(error), error, error.__traceback__)
            raise
        if self._takes_run and _is_left_to_us(given):
            bound.arguments["run"] = run
        return run, bound.args, bound.kwargs

    def _opened(self, outer: Run | None, params: Mapping[str, Any]) -> Run:
        if outer is not None:
            return outer.child(self._name, params=params)
        return self._start(self._name, params, _address_of(self._function))

    def _named(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, those of `**kwargs` too."""
        named = dict(arguments)
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                named.update(named.pop(name, {}))
        return {name: value for name, value in named.items() if name not in _SKIPPED}

    def _params(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, value in arguments.items():
            kind = self._signature.parameters[name].kind
            if name in _SKIPPED or (name == "run" and _is_left_to_us(value)):
                continue
            if kind is inspect.Parameter.VAR_KEYWORD:
                params.update({key: _unless_data(one) for key, one in value.items()})
            elif kind is not inspect.Parameter.VAR_POSITIONAL or value:
                params[name] = _unless_data(value)
        return params

    def _keep_result(self, run: Run, result: Any) -> Any:
        """Record numbers of a mapping as final metrics, and models, as asked; return the result."""
        with run._troubles.noted("the result of track", self._name):  # noqa: SLF001 - one layer up
            numbers_in = _numbers_in(result) if self._log_return in ("metrics", "all") else {}
            if numbers_in:
                run.log_final(numbers_in)
            if self._log_return in ("models", "all"):
                for name, model in models_in(result).items():
                    run.log_model(name, model)
        return result


def _address_of(function: Callable[..., Any]) -> str:
    """Where a function is found again, "" if nowhere: a partial and a callable object have no name there."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return f"{module}:{name}" if module and name else ""


def _is_left_to_us(run: object) -> bool:
    """Tell whether the parameter `run` is ours to fill: somebody's own value for it stays."""
    return run is None or isinstance(run, Run)


def _unless_data(value: object) -> object:
    """Return the argument, or what it is if it holds so many items that it is data, not configuration."""
    with contextlib.suppress(Exception):  # a proxy may fail to say what it stands for
        if isinstance(value, list | tuple | set | frozenset | dict) and len(value) > _MAX_ITEMS:
            return f"{type(value).__qualname__} of {len(value):,}"
    return value


def _numbers_in(result: object) -> dict[str, Any]:
    """The entries of a mapping that are numbers under names; of anything else, none."""
    if not isinstance(result, Mapping):
        return {}
    return {key: value for key, value in result.items() if isinstance(key, str) and _is_number(value)}


def _is_number(value: object) -> bool:
    try:
        if isinstance(value, bool):
            return False
        is_single = callable(getattr(value, "item", None)) and getattr(value, "shape", ()) in ((), (1,))
        return isinstance(value, numbers.Real) or is_single
    except Exception:  # somebody's own code: what fails to say so is none
        return False


class _Unwaited:
    """Ends a run as its own `with` block does, but leaves the wait for backends to the program's end.

    Here it would stop the event loop. To wait in a thread of the loop was no better: a timeout around the
    call would take its result away, and a generator that is closed cannot wait.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        pass  # whoever opened the run just now has made it current

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run._opened.close(ending(error), waits=False)  # noqa: SLF001 - one layer up


@contextlib.contextmanager
def _current(run: Run) -> Iterator[None]:
    """Make the run current for one resumption of a generator."""
    current.enter(run)
    try:
        yield
    finally:
        current.leave(run)


@contextlib.contextmanager
def _left(run: Run) -> Iterator[None]:
    """Outside of its resumptions a generator's run is not current."""
    current.leave(run)
    yield


def _resumed(inner: Generator[Any, Any, Any], run: Run) -> Generator[Any, Any, Any]:
    """Delegate to a generator, with the run current whenever its own code runs."""
    resume: Callable[..., Any] = inner.send
    value: Any = None
    while True:
        try:
            with _current(run):
                item = resume(value)
        except StopIteration as stop:
            return stop.value
        try:
            value = yield item
            resume = inner.send
        except GeneratorExit:
            with _current(run):
                inner.close()
            raise
        except BaseException as error:
            resume, value = inner.throw, error
