"""The rules that every backend keeps, as tests: subclass `BackendContract`, and give it your backend.

    class TestMine(BackendContract):
        @pytest.fixture
        def backend(self, tmp_path):
            return Mine(folder=str(tmp_path))

What was delivered is read back through the backend's own `source()`, and compared value by value.
"""

from __future__ import annotations

import pytest

from mlobs.backend import Backend
from mlobs.delivery.registry import build, can_travel, public_spec, resolve, spec_of
from mlobs.testing.rules_on_content import ContentRules
from mlobs.testing.rules_on_delivery import DeliveryRules
from mlobs.testing.rules_on_events import EventRules
from mlobs.testing.watching import watched


class BackendContract(ContentRules, EventRules, DeliveryRules):
    """The contract suite. Write the fixture `backend`; the rest is optional.

    - `unreachable`: a fixture, the backend where it cannot deliver.
    - `reads`: the kinds of events that the source reads back, as `Capabilities.kinds` spells them.
      What a backend takes and its source does not read cannot be compared, and is skipped.
    - `loses`: facts that the vendor has no place for, such as "artifact.role". They are not compared; say
      in your docs that they get lost. What depends on the single event, name in `Receipt.lowered` instead.
    - `precision_s`: to how many seconds the vendor keeps times, 0 if exactly. A millisecond is granted.
    - `restarted(backend)`: the backend as another process makes it, if not from its parameters.
    """

    def test_it_is_a_backend(self, backend: Backend) -> None:
        resolve([backend], {}, travels=False)

    def test_it_travels_to_the_sender_as_data(self, backend: Backend) -> None:
        if not can_travel(backend):
            pytest.skip("it cannot be imported by another process: it works with delivery='thread' alone")
        spec = spec_of(backend)
        assert spec_of(build(spec)) == spec, (
            "rule: the fields are all there is - give every parameter a field"
        )

    def test_its_secrets_are_not_written_down(self, backend: Backend) -> None:
        fields = type(backend).__dataclass_fields__  # type: ignore[attr-defined]
        secret = [name for name, field in fields.items() if field.metadata.get("secret")]
        if not secret or not can_travel(backend):
            pytest.skip("no field is marked as secret")
        assert not set(secret) & set(public_spec(spec_of(backend)).params)

    def test_making_it_touches_nothing(self, backend: Backend) -> None:
        if not can_travel(backend):
            pytest.skip("it cannot be made anew from its parameters")
        spec = spec_of(backend)
        with watched() as touched:
            build(spec)
        assert not touched, f"rule: constructing does no I/O - move it to deliver: {touched[:3]}"

    def test_it_may_be_closed_before_anything_was_delivered_and_twice(self, backend: Backend) -> None:
        backend.close()
        backend.close()
