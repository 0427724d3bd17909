"""Whatever is recorded, what is sent keeps the service's limits, and comes back as it was."""

import io
import json
import math
import time

import pytest
from appinsights_service import KEY, Service
from hypothesis import given, settings
from hypothesis import strategies as st

from mlobs.backend import Batch, Entry
from mlobs.backends.appinsights_envelopes import MAX_TEXT, Envelopes, fitted, pieces, units
from mlobs.backends.appinsights_mapping import Encoder
from mlobs.backends.appinsights_reading import events_of
from mlobs.backends.appinsights_tables import CLASSIC, row_of
from mlobs.backends.appinsights_traceback import exceptions_of
from mlobs.events import (
    Artifact,
    Dataset,
    Histogram,
    Log,
    Metrics,
    Params,
    Process,
    RunStarted,
    Snapshot,
    Tags,
)

NOW = time.time()
RUN = RunStarted(NOW, "run-1", "churn", "baseline", Process("host", 7))
TABLES = {table.name: table for table in CLASSIC}
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, max_size=60)
NAMES = st.text(CHARACTERS, min_size=1, max_size=40)
LONG = st.builds(
    lambda text, times: text * times, st.text(CHARACTERS, min_size=1, max_size=30), st.integers(1, 900)
)
TEXTS = TEXT | LONG
STEPS = st.integers(-(2**62), 2**62)
FLOATS = st.floats()
META = st.none() | st.dictionaries(
    NAMES, TEXT | st.integers(-(2**50), 2**50) | st.booleans(), min_size=1, max_size=3
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False)
)
OWN = st.builds(lambda own: {"properties": own}, st.dictionaries(NAMES, TEXTS, min_size=1, max_size=4))
AT, LINES = st.just(NOW), NAMES | LONG
LEVELS = st.sampled_from(["INFO", "ERROR"])
BINS = st.lists(st.floats(-1e9, 1e9), max_size=400)
OPTIONAL = st.none() | NAMES
CONTENT = st.binary(max_size=20_000) | TEXTS.map(str.encode)
ROLES = st.sampled_from(["text", "file", "table"])


def artifact(path, role, data, step):
    return Artifact(NOW, path, len(data), role, "text/plain", data=data, step=step)


EVENTS = st.one_of(
    st.builds(Metrics, AT, STEPS, st.dictionaries(NAMES, FLOATS, min_size=1, max_size=1), META),
    st.builds(Params, AT, st.dictionaries(NAMES, VALUES, min_size=1, max_size=9)),
    st.builds(Tags, AT, st.dictionaries(NAMES, TEXTS, min_size=1, max_size=9)),
    st.builds(Log, AT, LINES, LEVELS, NAMES, meta=META | OWN, step=st.none() | STEPS),
    st.builds(Log, AT, LINES, LEVELS, NAMES, exception=LINES),
    st.builds(Log, AT, LINES, LEVELS, NAMES, st.just("event"), meta=OWN),
    st.builds(Histogram, AT, STEPS, NAMES, BINS, BINS),
    st.builds(Dataset, AT, NAMES, OPTIONAL, NAMES, NAMES, rows=st.none() | st.integers(0, 2**60), meta=META),
    st.builds(Snapshot, AT, NAMES, st.dictionaries(NAMES, TEXTS, max_size=4), missing=OPTIONAL),
    st.builds(artifact, NAMES, ROLES, CONTENT, st.none() | STEPS),
)


@pytest.fixture(scope="module")
def service():
    serving = Service()
    yield serving
    serving.stop()


def sent(event):
    """The envelopes of an event, by way of JSON in ASCII as OpenCensus spells it."""
    batch = Batch(RUN, (Entry("writer:64", event),), lambda entry: io.BytesIO(entry.event.data or b""))
    encoder = Encoder(batch, Envelopes(KEY, RUN, NOW))
    made = [one for _, envelopes in encoder for one in envelopes]
    assert not encoder.rejected
    return json.loads(json.dumps(made, allow_nan=False))


def back(service, envelopes):
    """The events that the service's rows are read as; each has passed its checks."""
    rows = {}
    for envelope in envelopes:
        name, row = service._row(envelope, len(json.dumps(envelope)))
        table = TABLES[name]
        found = {ours: row.get(theirs) for ours, theirs in table.columns.items()}
        read = row_of(table, found | {"happened": row["timestamp"], "properties": row["customDimensions"]})
        rows[read.key] = read
    assert len(rows) == len(envelopes)
    return list(events_of(rows))


@settings(max_examples=400, deadline=None)
@given(event=EVENTS)
def test_an_event_keeps_the_limits_and_comes_back_as_it_was(service, event):
    (held,) = back(service, sent(event))

    assert type(held) is type(event)
    for name in type(event).__struct_fields__:
        ours, theirs = getattr(event, name), getattr(held, name)
        if name == "at":
            assert abs(ours - theirs) < 1e-5
        elif name == "raw" or (name == "size_bytes" and theirs == 0):
            continue
        elif name == "values" and isinstance(event, Metrics):
            assert list(ours) == list(theirs)
            assert all(same(one, theirs[key]) for key, one in ours.items())
        elif name == "meta" and isinstance(event, Log) and ours and "properties" in ours:
            assert list(theirs["properties"].values()) == list(ours["properties"].values())
        else:
            assert ours == theirs, name


def same(one, other):
    return one == other or (math.isnan(one) and math.isnan(other))


@given(text=TEXTS)
def test_pieces_are_short_enough_and_make_the_text_again(text):
    cut = pieces(text, 50)

    assert "".join(cut) == text
    assert max(map(units, cut)) <= 50


@given(properties=st.dictionaries(NAMES, TEXTS, max_size=12))
def test_properties_fit_an_item_and_what_does_not_is_named(properties):
    short, long = fitted(properties)

    assert len(json.dumps(short)) <= 65_536 - 2_000
    assert all(units(text) <= MAX_TEXT for text in short.values())
    assert {name: long.get(name, short.get(name, "")) for name in properties} == properties
    assert short.get("continued", "") == ",".join(long)


@given(text=st.text(max_size=3000))
def test_a_traceback_of_any_shape_is_a_chain_that_the_service_takes(text):
    for one in exceptions_of(text):
        assert one["typeName"]
        assert one["message"]
        assert units(one["message"]) <= 32_768
