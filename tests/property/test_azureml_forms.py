"""What Azure ML's files say of log lines and of artifacts' paths comes back as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlobs.backends import azureml_files, azureml_logs
from mlobs.events import Artifact, Log

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.sampled_from(
    ["a\tb\\n", "\n  | x", "  ! y\n", "\r\n", "é\u2028z"]
)
lines = st.builds(
    Log,
    st.integers(0, 8_000_000_000).map(lambda quarter: quarter / 4),
    texts,
    texts,
    texts,
    texts,
    st.none() | texts,
    st.none() | st.integers(-(2**63), 2**63 - 1),
)
names = st.text(st.sampled_from("ab.-_ ~%/é1"), min_size=1, max_size=20).filter(
    lambda path: not path.startswith("/") and "//" not in path and not path.endswith("/")
)
paths = names.filter(lambda path: not {".", ".."} & set(path.split("/"))) | st.sampled_from(
    ["a.step3.txt", "a~0123abcd.txt", "x_x41_.bin", "a.step3", "b/.hidden"]
)


@given(st.lists(lines, max_size=5))
def test_log_lines_come_back(events: list[Log]) -> None:
    assert list(azureml_logs.events_of(azureml_logs.text_of(events))) == events


@given(paths, st.none() | st.integers(-5, 99), st.booleans())
def test_a_path_and_step_come_back(path: str, step: int | None, is_second: bool) -> None:
    stored = azureml_files.stored_path(Artifact(1.0, path, 1, step=step))
    candidates = list(azureml_files._candidates(stored, "0123abcd"))
    found = azureml_files.logged(candidates[is_second])

    assert (found.path, found.step) == (path, step)


@given(st.text("0123456789abcdef", min_size=8, max_size=8), st.integers(0, 10**11), st.integers(0, 10**11))
def test_a_log_files_name_says_what_it_holds(writer: str, first: int, last: int) -> None:
    span = azureml_logs.Span(writer, first, last)

    assert azureml_logs.span_of(span.path) == span
    assert azureml_logs.span_of(span.path.replace(".txt", "~0123abcd-2.txt")) == span
