"""Stretches that several senders have answered for are each counted once."""

from hypothesis import given
from hypothesis import strategies as st

from mlobs.delivery.spans import Spans

stretches = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda one: (one[0], one[0] + one[1]))
)


@given(stretches)
def test_a_stretch_is_new_known_or_mixed_as_a_set_of_offsets_says(given_stretches):
    spans, known = Spans(), set()
    for begin, until in given_stretches:
        offsets = set(range(begin, until))
        fresh = offsets - known
        expected = "new" if fresh == offsets else "mixed" if fresh else "known"
        assert spans.add("w", begin, until) == expected
        known |= offsets
    assert [offset for offset in range(50) if spans.holds(f"w:{offset}/1")] == sorted(known)
    assert not spans.holds("other:1")
