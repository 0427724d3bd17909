from __future__ import annotations

import io
import json
import math
import posixpath
import re
import sys
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlobs.backend import ALL_KINDS, ALL_ROLES, Capabilities
from mlobs.delivery.lowering import TABLE, Lowering, Memory, lower
from mlobs.encoding.forms import encode
from mlobs.events import (
    Artifact,
    Dataset,
    Event,
    Heartbeat,
    Histogram,
    Log,
    Metrics,
    ModelFingerprint,
    Params,
    Process,
    Rewind,
    Role,
    RunFinished,
    RunStarted,
    Snapshot,
    Tags,
    Unknown,
    kind_of,
)
from mlobs.text import param_text, preview

MLFLOW = Capabilities(
    kinds=frozenset(["run_started", "params", "metrics", "tags", "artifact", "run_finished"]),
    roles=frozenset(["file", "text"]),
    name_pattern=r"[/\w.\- :]",
    name_is_path=True,
    max_name_length=250,
    max_param_length=6000,
    max_tag_length=8000,
    infinities=False,
)

times = st.floats(0, 2e9)
steps = st.integers(-5, 5)
names = st.text(st.sampled_from("ab/.%_x41 é"), max_size=30) | st.sampled_from(["loss", "val/loss"])
texts = st.text(max_size=120)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=5)


def mapped(inner: Any) -> Any:
    return st.dictionaries(names, inner, max_size=4)


events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Metrics, times, steps, mapped(st.floats())),
    st.builds(Params, times, mapped(values), st.sampled_from([None, "keep_first", "overwrite"])),
    st.builds(Tags, times, mapped(texts)),
    st.builds(Log, times, texts),
    st.builds(
        Artifact,
        times,
        names,
        st.just(3),
        st.sampled_from(get_args(Role)),
        st.sampled_from(["image/png", "text/html"]),
        data=st.just(b"abc"),
    ),
    st.builds(Histogram, times, steps, names, st.lists(st.floats(), max_size=3), st.just([0.0, 1.0])),
    st.builds(Dataset, times, names, st.none(), texts, st.just("content")),
    st.builds(
        Snapshot, times, names, st.just({"file": "code.zip", "size_bytes": 7}), st.sampled_from([None, 3])
    ),
    st.builds(ModelFingerprint, times, names, texts, st.just("v1"), step=st.none() | steps),
    st.builds(Heartbeat, times),
    st.builds(Rewind, times, steps),
    st.builds(RunFinished, times, st.just("FAILED"), texts),
    st.builds(
        Unknown, st.sampled_from(["future", "far/../future"]), st.tuples(times, texts, st.binary(max_size=3))
    ),
    st.builds(RunStarted, times, names, names, names, st.just(Process("host", 1))),
)
histories = st.lists(events, max_size=12)
capability_sets = st.builds(
    Capabilities,
    kinds=st.frozensets(st.sampled_from(sorted(ALL_KINDS))),
    roles=st.frozensets(st.sampled_from(sorted(ALL_ROLES))),
    name_pattern=st.sampled_from([None, r"[/\w.\- :]", r"[A-Za-z0-9_]"]),
    name_is_path=st.booleans(),
    max_name_length=st.none() | st.integers(12, 60),
    max_param_length=st.none() | st.integers(1, 100),
    max_tag_length=st.none() | st.integers(1, 100),
    max_params=st.none() | st.integers(1, 5),
    max_tags=st.none() | st.integers(1, 5),
    nan=st.booleans(),
    infinities=st.booleans(),
)


def lowered(history: list[Event], capabilities: Capabilities, memory: Memory | None = None) -> list[Lowering]:
    memory = Memory() if memory is None else memory
    return [lower(event, capabilities, memory) for event in history]


def assert_acceptable(event: Event, capabilities: Capabilities) -> None:
    assert kind_of(event) in capabilities.kinds
    if isinstance(event, Artifact):
        assert event.role in capabilities.roles
    if isinstance(event, Metrics | Params | Tags):
        for name in event.values:
            assert_legal(name, capabilities)
    if isinstance(event, Metrics):
        assert capabilities.nan or not any(map(math.isnan, event.values.values()))
        assert capabilities.infinities or not any(map(math.isinf, event.values.values()))
    if isinstance(event, Params | Tags):
        is_param = isinstance(event, Params)
        longest = capabilities.max_param_length if is_param else capabilities.max_tag_length
        assert longest is None or all(len(param_text(value)) <= longest for value in event.values.values())


def assert_legal(name: str, capabilities: Capabilities) -> None:
    pattern, longest = capabilities.name_pattern, capabilities.max_name_length
    assert pattern is None or all(re.fullmatch(pattern, character) for character in name)
    assert longest is None or len(name) <= longest
    if capabilities.name_is_path:
        assert posixpath.normpath(name) == name != "."
        assert not name.startswith(("/", ".."))


@given(histories, capability_sets)
def test_whatever_comes_out_is_what_the_backend_takes(
    history: list[Event], capabilities: Capabilities
) -> None:
    for lowering in lowered(history, capabilities):
        for event in lowering.events:
            assert_acceptable(event, capabilities)


@given(histories, capability_sets)
def test_an_event_is_native_and_the_same_or_there_is_a_reason(
    history: list[Event], capabilities: Capabilities
) -> None:
    for event, lowering in zip(history, lowered(history, capabilities), strict=True):
        if lowering.outcome == "native":
            assert len(lowering.events) == 1
            assert lowering.events[0] is event
            assert not lowering.reason
        else:
            assert lowering.reason
            assert lowering.outcome == "lowered" or not lowering.events


@given(events, capability_sets)
def test_what_the_backend_takes_is_native(event: Event, capabilities: Capabilities) -> None:
    try:
        assert_acceptable(event, capabilities)
    except AssertionError:
        return
    text = str(event.values) if isinstance(event, Metrics | Params | Tags) else ""
    is_page = isinstance(event, Artifact) and (event.role, event.media_type) == ("figure", "text/html")
    if is_page and "file" not in capabilities.roles:
        return  # a page with a script is a figure for those alone that keep files
    if "_x" not in text:  # else it looks like an escape, and is escaped
        assert lower(event, capabilities, Memory()).outcome == "native"


@given(histories, st.integers(0, 12), capability_sets)
def test_a_restart_changes_nothing(history: list[Event], cut: int, capabilities: Capabilities) -> None:
    memory = Memory()
    lowered(history[:cut], capabilities, memory)

    assert lowered(history[cut:], capabilities, memory) == lowered(history, capabilities)[cut:]


@given(histories, events, capability_sets)
def test_a_refused_event_is_lowered_again_to_the_same(
    history: list[Event], event: Event, capabilities: Capabilities
) -> None:
    memory = Memory()
    lowered(history, capabilities, memory)

    assert lower(event, capabilities, memory) == lower(event, capabilities, memory)


def test_tags_without_room_and_the_tags_that_name_them_are_in_one_file() -> None:
    """The later of two files of one name counts, and held less than the earlier."""
    capabilities = Capabilities(
        kinds=frozenset(["artifact", "tags"]), roles=frozenset(["file"]), name_pattern=r"[\w.]", max_tags=1
    )
    memory, event = Memory(), Tags(0.0, {"first": "1", "%": "2"})

    once = lower(event, capabilities, memory)

    (file,) = (one for one in once.events if isinstance(one, Artifact))
    assert json.loads(file.data or b"") == {"%": "2", "mlobs.name._x25_": "%"}
    assert lower(event, capabilities, memory) == once


@given(histories, capability_sets)
def test_a_run_has_no_more_names_than_the_backend_has_room_for(
    history: list[Event], capabilities: Capabilities
) -> None:
    held: dict[str, set[str]] = {"params": set(), "tags": set()}
    for lowering in lowered(history, capabilities):
        for event in lowering.events:
            if isinstance(event, Tags) or (isinstance(event, Params) and event.conflict != "keep_first"):
                held[kind_of(event)].update(event.values)
    assert capabilities.max_params is None or len(held["params"]) <= capabilities.max_params
    assert capabilities.max_tags is None or len(held["tags"]) <= capabilities.max_tags


@given(histories, capability_sets)
def test_files_of_different_events_never_replace_each_other(
    history: list[Event], capabilities: Capabilities
) -> None:
    files_only = replace(capabilities, kinds=frozenset({"artifact"}))
    written: dict[tuple[str, int | None], Event] = {}
    memory = Memory()
    for event in history:
        if isinstance(event, Histogram | Dataset | Snapshot | ModelFingerprint | Unknown):
            for file in lower(event, files_only, memory).events:
                assert isinstance(file, Artifact)
                assert posixpath.normpath(file.path) == file.path
                assert repr(written.setdefault((file.path, file.step), event)) == repr(event)


def test_every_kind_of_event_has_a_row() -> None:
    assert set(TABLE) == set(get_args(Event))


@pytest.mark.parametrize("value", ["x" * 7000, list(range(3000))])
def test_a_long_param_arrives_as_a_preview_and_whole_in_a_file(value: Any) -> None:
    main, file = lower(Params(1.0, {"long": value, "lr": 0.1}), MLFLOW, Memory()).events

    assert isinstance(main, Params)
    assert isinstance(file, Artifact)
    assert len(main.values["long"]) == 6000
    end = f"… ({len(param_text(value))} characters, full value in params.json)"
    assert main.values["long"].endswith(end)
    assert main.values["lr"] == 0.1
    assert (file.path, file.role, file.media_type) == ("params.json", "text", "application/json")
    assert json.loads(file.data or b"") == {"long": value}


def test_params_json_holds_all_long_params_so_far_and_their_latest_values() -> None:
    memory = Memory()
    lower(Params(1.0, {"a": "a" * 7000}), MLFLOW, memory)
    lower(Params(2.0, {"b": "b" * 7000}), MLFLOW, memory)
    lower(Params(3.0, {"b": "ignored" * 7000}, "keep_first"), MLFLOW, memory)
    *_, file = lower(Params(4.0, {"a": "short"}, "overwrite"), MLFLOW, memory).events

    assert json.loads(file.data) == {"a": "short", "b": "b" * 7000}  # type: ignore[union-attr]


def test_a_backend_without_files_hears_that_the_local_store_has_the_value() -> None:
    capabilities = Capabilities(kinds=ALL_KINDS - {"artifact"}, max_tag_length=100)
    (main,) = lower(Tags(1.0, {"note": "x" * 200}), capabilities, Memory()).events

    assert main.values["note"].endswith("… (200 characters, full value in the local store)")  # type: ignore[union-attr]


def test_params_without_room_are_in_the_file_and_those_with_a_place_keep_it() -> None:
    capabilities, memory = Capabilities(max_params=2), Memory()
    main, file = lower(Params(1.0, {"a": 1, "b": 2, "c": 3}), capabilities, memory).events
    alone = lower(Params(2.0, {"d": 4}), capabilities, memory)
    again = lower(Params(3.0, {"a": 5}, "overwrite"), capabilities, memory)

    assert main == Params(1.0, {"a": 1, "b": 2})
    assert json.loads(file.data) == {"c": 3}  # type: ignore[union-attr]
    assert [json.loads(one.data) for one in alone.events] == [{"c": 3, "d": 4}]  # type: ignore[union-attr]
    assert alone.reason == "a run holds 2 params there: 'd' is in params.json"
    assert again.outcome == "native"


def test_a_renamed_metric_is_announced_once() -> None:
    memory = Memory()
    first = lower(Metrics(1.0, 0, {"loss%": 0.5, "acc": 1.0}), MLFLOW, memory)
    second = lower(Metrics(2.0, 1, {"loss%": 0.4}), MLFLOW, memory)

    assert first.events == (
        Metrics(1.0, 0, {"loss_x25_": 0.5, "acc": 1.0}),
        Tags(1.0, {"mlobs.name.loss_x25_": "loss%"}),
    )
    assert first.reason == "'loss%' is named 'loss_x25_' there"
    assert second.events == (Metrics(2.0, 1, {"loss_x25_": 0.4}),)


def test_infinities_become_the_largest_number_and_a_tag_says_so() -> None:
    lowering = lower(Metrics(1.0, 7, {"up": math.inf, "down": -math.inf, "nan": math.nan}), MLFLOW, Memory())
    main, tags = lowering.events

    assert isinstance(main, Metrics)
    assert (main.values["up"], main.values["down"]) == (sys.float_info.max, -sys.float_info.max)
    assert math.isnan(main.values["nan"])
    assert tags == Tags(
        1.0,
        {
            "mlobs.infinite.up": "inf at step 7; there may be more",
            "mlobs.infinite.down": "-inf at step 7; there may be more",
        },
    )


def test_nan_is_left_out_and_a_tag_says_so_once() -> None:
    capabilities, memory = Capabilities(nan=False), Memory()
    first = lower(Metrics(1.0, 7, {"loss": math.nan}), capabilities, memory)
    second = lower(Metrics(2.0, 8, {"loss": math.nan}), capabilities, memory)

    assert first.events == (Tags(1.0, {"mlobs.nan.loss": "nan at step 7; there may be more"}),)
    assert (second.events, second.outcome) == ((), "lowered")
    assert second.reason == first.reason == "'loss' was nan, which the backend cannot store"


@pytest.mark.parametrize(
    ("role", "media_type", "roles", "expected"),
    [
        ("figure", "image/png", {"file", "image"}, "image"),
        ("figure", "text/html", {"file", "image"}, "file"),
        ("figure", "image/png", {"file"}, "file"),
        ("table", "text/csv", {"file", "image"}, "file"),
        ("image", "image/png", {"file", "text"}, "file"),
        ("image", "image/png", {"text"}, "text"),
        ("figure", "text/html", {"figure", "text"}, "text"),
        ("matrix", "application/json", {"image", "text"}, "text"),
        ("model", "application/octet-stream", {"text"}, "text"),
    ],
)
def test_an_artifact_of_an_unknown_role_is_an_image_or_a_file_or_a_text(
    role: Role, media_type: str, roles: set[str], expected: Role
) -> None:
    event = Artifact(1.0, "a", 3, role, media_type, data=b"abc")
    lowering = lower(event, Capabilities(roles=frozenset(roles)), Memory())

    assert lowering.outcome == "lowered"
    assert [one.role for one in lowering.events if isinstance(one, Artifact)] == [expected]


def document_of(file: Event) -> Any:
    """What the JSON file will hold, once the sender has made it."""
    assert isinstance(file, Artifact)
    return json.loads(encode(file, io.BytesIO(file.data or b"")))


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (Histogram(1.0, 3, "layer/w", [1.0], [0.0, 1.0]), "mlobs/histograms/layer/w.json"),
        (Dataset(1.0, "train: a", "v1", "f", "content"), "mlobs/datasets/train_x3A_ a.json"),
        (Snapshot(1.0, "code", {}), "mlobs/snapshot/code.json"),
        (ModelFingerprint(1.0, "model", "f", "v1"), "mlobs/model_fingerprints/model.json"),
        (Unknown("future", (1.0,)), "mlobs/events/future.json"),
    ],
)
def test_what_mlflow_has_no_place_for_becomes_a_json_file(event: Event, path: str) -> None:
    (file,) = lower(event, MLFLOW, Memory()).events

    assert isinstance(file, Artifact)
    assert (file.at, file.path, file.role) == (1.0, path, "text")
    assert document_of(file)["kind"] == kind_of(event)


def test_the_file_of_a_snapshot_goes_beside_its_facts() -> None:
    event = Snapshot(1.0, "code", {"file": "code.zip", "size_bytes": 7}, blob=3)
    _, file = lower(event, MLFLOW, Memory()).events

    assert file == Artifact(1.0, "mlobs/snapshot/code/code.zip", 7, blob=3)


def test_numbers_that_json_does_not_have_stay_readable() -> None:
    event = Histogram(1.0, 0, "w", [math.nan, math.inf, -math.inf], [0.0, 1.0])
    (file,) = lower(event, MLFLOW, Memory()).events

    counts = document_of(file)["counts"]
    assert counts == ["NaN", "Infinity", "-Infinity"]


def test_the_end_of_a_run_becomes_tags_where_there_is_no_status() -> None:
    capabilities = Capabilities(kinds=frozenset({"tags"}))
    lowering = lower(RunFinished(1.0, "FAILED", "ValueError: no"), capabilities, Memory())

    assert lowering.events == (Tags(1.0, {"mlobs.status": "FAILED", "mlobs.reason": "ValueError: no"}),)


def test_what_is_taken_back_stands_in_a_tag_with_all_that_was_before() -> None:
    capabilities, memory = Capabilities(kinds=frozenset({"tags"})), Memory()
    first, second = Rewind(1.0, 3), Rewind(2.0, 7, since=1.5)

    lower(first, capabilities, memory)
    lowering = lower(second, capabilities, memory)

    told = (
        "of what was there at 1970-01-01 00:00:01.000+00:00, steps from 3 on no longer count; "
        "of what was there at 1970-01-01 00:00:02.000+00:00, steps from 7 on"
        " or recorded after 1970-01-01 00:00:01.500+00:00 no longer count"
    )
    assert lowering.events == (Tags(2.0, {"mlobs.rewound": told}),)
    assert lowering.outcome == "lowered"
    assert lower(second, capabilities, memory) == lowering  # its batch was refused


def test_a_log_record_becomes_the_line_of_a_file() -> None:
    lowering = lower(Log(1.0, "hello", "WARNING", "train", exception="why"), MLFLOW, Memory())

    (line,) = lowering.events
    assert isinstance(line, Artifact)
    assert line.data == b"1970-01-01 00:00:01.000 WARNING train: hello\nwhy\n"
    assert (lowering.outcome, lowering.reason) == ("lowered", "log lines are text files under logs/ there")


def test_what_has_no_other_form_is_skipped_with_a_reason() -> None:
    event = Heartbeat(1.0)
    lowering = lower(event, MLFLOW, Memory())

    assert (lowering.events, lowering.outcome) == ((), "skipped")
    assert lowering.reason == (
        f"the backend does not take events of kind {kind_of(event)!r}; the local store has them"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("adam", "adam"),
        (None, "None"),
        (True, "True"),
        (7, "7"),
        (0.1, "0.1"),
        (math.nan, "nan"),
        ([1, "a", None, math.inf], '[1,"a",null,"Infinity"]'),
        ({"größe": (1, 2)}, '{"größe":[1,2]}'),
    ],
)
def test_a_param_reads_as_in_python_or_json(value: Any, text: str) -> None:
    assert param_text(value) == text


@given(texts, st.integers(0, 130))
def test_a_preview_is_never_longer_than_it_may_be(text: str, limit: int) -> None:
    assert len(preview(text * 3, limit, "params.json")) <= limit
