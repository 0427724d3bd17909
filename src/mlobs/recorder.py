"""What a run records: each call becomes an event, in the journal when the call returns."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from itertools import count
from time import time
from typing import Any, SupportsFloat

from msgspec.structs import asdict

from mlobs.errors import UsageError
from mlobs.events import Meta, Metrics, Tags
from mlobs.ledger import Ledger
from mlobs.opened import Opened
from mlobs.provenance_recorder import ProvenanceRecorder
from mlobs.resuming import SavedState
from mlobs.secrets import REDACTED, Redaction
from mlobs.troubles import caller, log, names_in
from mlobs.values import (
    flatten,
    meta_of,
    name_of,
    plain,
    repr_of,
    scalar,
    step_number,
    tag_name_of,
    unicode_of,
)

_STEP_BITS = 63  # and a sign: what journals and vendors hold


class Recorder(ProvenanceRecorder):
    """The `log_*` methods of one run; usable from any thread.

    - When a call returns, what it recorded survives `kill -9` of the process.
    - No call waits for a backend.
    - What cannot be recorded is warned about once per name, with the caller's file and line, and
      counted; with `on_error="raise"` it is an exception instead.
    """

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._redaction = Redaction(opened.plan.settings.secrets_allow, os.environ)
        past = opened.begun.past
        self._ledger = Ledger(opened.plan.on_conflict, past.params)
        self._steps: defaultdict[str, count[int]] = defaultdict(
            count, {name: count(step) for name, step in past.steps.items()}
        )
        self._last_step = past.last_step

    def log_metric(
        self, key: str, value: SupportsFloat, step: int | None = None, *, meta: Meta | None = None
    ) -> None:
        """Record one value of a metric.

        `value` is a float, or anything with `.item()` and size 1; NaN and infinities are kept.
        `step` is any integer, in any order; left out, the calls for this name are counted from 0.
        A repeated (key, step) keeps both points.
        """
        try:
            number = value if type(value) is float else scalar(key, value)
            if type(key) is not str or not key:
                key = name_of(key)
            if step is None:
                step = next(self._steps[key])
            elif type(step) is not int or step.bit_length() > _STEP_BITS:
                step = step_number(step)
            if meta is not None:
                meta = meta_of(meta)
            try:
                self._opened.append(Metrics(time(), step, {key: number}, meta))
            except UnicodeEncodeError:  # half a character in the name: to look for one each time costs 0.1 us
                self._opened.append(Metrics(time(), step, {unicode_of(key): number}, meta))
            self._last_step = step
        except Exception as error:
            self._troubles.report("log_metric", key, error)

    def log_metrics(
        self, metrics: Mapping[str, SupportsFloat], step: int | None = None, *, meta: Meta | None = None
    ) -> None:
        """Record several metrics of one step as one event; see `log_metric` for values and steps."""
        try:
            try:
                values: dict[str, float] = {}
                for key, value in metrics.items():
                    name = key if type(key) is str and key else name_of(key)
                    values[name] = value if type(value) is float else scalar(key, value)
            except Exception:
                values = self._recordable(metrics)
            if meta is not None:
                meta = meta_of(meta)
            if step is None or not values:
                self._append_counted(values, meta)
                return
            if type(step) is not int or step.bit_length() > _STEP_BITS:
                step = step_number(step)
            try:
                self._opened.append(Metrics(time(), step, values, meta))
            except UnicodeEncodeError:
                self._opened.append(Metrics(time(), step, _with_readable_names(values), meta))
            self._last_step = step
        except Exception as error:
            self._troubles.report("log_metrics", names_in(metrics), error)

    def log_param(self, key: str, value: object) -> None:
        """Record one parameter; a mapping or config object becomes several, under dotted names."""
        with self._troubles.noted("log_param", key):
            for params in flatten({name_of(key): value}):
                self._enter_params(params)

    def log_params(self, params: object) -> None:
        """Record a mapping, a dataclass or a config object; nested fields get dotted names.

        A parameter that already has another value is settled by `on_conflict`; both are recorded.
        """
        with self._troubles.noted("log_params", names_in(params)):
            for one in flatten(params):  # a name that comes again is settled like one of another call
                self._enter_params(one)

    def set_tag(self, key: str, value: object) -> None:
        """Set a tag; a later value replaces an earlier one."""
        with self._troubles.noted("set_tag", key):
            self._opened.append(Tags(time(), self._public_tag(key, value)))

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags; values become text."""
        with self._troubles.noted("set_tags", names_in(tags)):
            values: dict[str, str] = {}
            for key, value in tags.items():
                with self._troubles.noted("set_tags", key):
                    values |= self._public_tag(key, value)
            if values:
                self._opened.append(Tags(time(), values))

    def log_final(self, metrics: Mapping[str, SupportsFloat]) -> None:
        """Record metrics of the whole run, at the last step that was logged."""
        self.log_metrics(metrics, step=self._last_step)

    def state_dict(self) -> dict[str, Any]:
        """Say where the run stands, for a checkpoint: a small mapping of plain values.

        `start_run(state=...)` goes on from there: what was recorded after this call no longer counts.
        """
        facts = self._opened.facts
        steps = {name: _next_of(counter) for name, counter in list(self._steps.items())}
        at = max(time(), facts.at)  # a clock that is behind that of an earlier attempt's host
        return asdict(
            SavedState(facts.run_id, facts.experiment, facts.name, facts.attempt, at, self._last_step, steps)
        )

    def _recordable(self, metrics: Mapping[str, SupportsFloat]) -> dict[str, float]:
        """Return all values but those that cannot be recorded, which are reported one by one."""
        if not hasattr(metrics, "items"):
            raise UsageError(f"metrics is {repr_of(metrics)}; expected a mapping, such as {{'loss': 0.3}}")
        values: dict[str, float] = {}
        for key, value in metrics.items():
            with self._troubles.noted("log_metrics", key):
                values[name_of(key)] = scalar(key, value)
        return values

    def _append_counted(self, values: Mapping[str, float], meta: Meta | None) -> None:
        """Record values without a step: each name has a count of its own, so one event per count."""
        by_step: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for name, value in values.items():
            by_step[next(self._steps[name])][name] = value
        now = time()
        for step, group in by_step.items():
            try:
                self._opened.append(Metrics(now, step, group, meta))
            except UnicodeEncodeError:
                self._opened.append(Metrics(now, step, _with_readable_names(group), meta))
        self._last_step = max(by_step, default=self._last_step)

    def _enter_params(self, params: Mapping[str, object]) -> None:
        public = {name: self._public("log_params", name, value) for name, value in params.items()}
        events, warning = self._ledger.weigh(public)
        for event in events:
            self._opened.append(event)
            self._ledger.enter(event)
        if warning:
            log.warning("%s: %s", caller(), warning)

    def _public_tag(self, key: str, value: object) -> dict[str, str]:
        name = tag_name_of(key)
        return {name: self._public("set_tags", name, str(plain(value)))}

    def _public(self, call: str, name: str, value: Any) -> Any:
        """The value without the secrets in it; the first of a name is said."""
        public = self._redaction.value(name, value)
        if public != value and value == value:  # noqa: PLR0124 - not a NaN, which differs from itself
            said = f"looks like a secret and is recorded as {REDACTED}"
            self._troubles.remark(call, name, f"{said}; to keep it, name it in MLOBS_SECRETS_ALLOW")
        return public


def _with_readable_names(values: Mapping[str, float]) -> dict[str, float]:
    return {unicode_of(name): value for name, value in values.items()}


def _next_of(counter: count[int]) -> int:
    """What the counter will give next, without taking it: its text is `count(N)`."""
    return int(repr(counter)[len("count(") : -1])
