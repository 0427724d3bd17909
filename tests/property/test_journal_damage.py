"""Whatever bytes are damaged, every record they do not touch is still read, and the damage is reported."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mlobs.events import Metrics
from mlobs.journal.format import SEGMENT_BYTES, encode, frame
from mlobs.journal.reader import Reader


@st.composite
def damaged_journals(draw):
    """(bytes, intact events): records, some bytes of some of them overwritten, perhaps a torn tail."""
    count = draw(st.integers(1, 30))
    events = [Metrics(float(number), number, {"v": float(number)}) for number in range(count)]
    records = [frame(encode(event)) for event in events]
    hit = draw(st.sets(st.integers(0, count - 1), max_size=5))
    intact = []
    for number, record in enumerate(records):
        if number not in hit:
            intact.append(events[number])
            continue
        at = draw(st.integers(0, len(record) - 1))
        flipped = draw(st.integers(1, 255))
        records[number] = record[:at] + bytes([record[at] ^ flipped]) + record[at + 1 :]
    tail = draw(st.sampled_from([b"", b"\0" * 500, records[0][:-1], b"\xabMLo"]))
    return b"".join(records) + tail, intact


@given(damaged_journals())
@settings(max_examples=300, deadline=None)
def test_every_intact_record_is_read(tmp_path_factory, journal):
    content, intact = journal
    path = tmp_path_factory.mktemp("j") / "w.journal"
    path.write_bytes(content)

    with Reader(path) as reader:
        events = [event for _, _, event in reader.events()]

    assert events == intact


@given(st.lists(st.integers(1, 3), min_size=2, max_size=5), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_zeros_up_to_a_segment_are_padding_and_no_damage(tmp_path_factory, per_segment, empty):
    path = tmp_path_factory.mktemp("j") / "w.journal"
    expected, content = [], b""
    for segment, count in enumerate(per_segment):
        content += b"\0" * (-len(content) % SEGMENT_BYTES)
        content += b"\0" * (SEGMENT_BYTES * empty if segment == 1 else 0)
        for number in range(count):
            event = Metrics(float(segment), number, {"v": 1.0})
            expected.append(event)
            content += frame(encode(event))
    path.write_bytes(content + b"\0" * 1000)

    with Reader(path) as reader:
        events = [event for _, _, event in reader.events()]

    assert events == expected
    assert reader.damage == []


def test_zeros_inside_a_segment_are_damage(tmp_path):
    first, second, third = (frame(encode(Metrics(0.0, step, {"v": 1.0}))) for step in range(3))
    path = tmp_path / "w.journal"
    path.write_bytes(first + b"\0" * len(second) + third)

    with Reader(path) as reader:
        steps = [event.step for _, _, event in reader.events()]

    assert steps == [0, 2]
    assert [(damage.offset, damage.size_bytes) for damage in reader.damage] == [(len(first), len(second))]
