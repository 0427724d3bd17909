"""The rules about what a backend keeps: values, names, order, bytes, the end."""

from __future__ import annotations

import math

import pytest

from mlobs.events import Artifact, Metrics, Params, RunFinished, Tags
from mlobs.testing.conversation import AT, Conversation, point_of
from mlobs.testing.subject import Subject, loss, numbered

LOSSES = (0.5, 1 / 3, -1e-7, 3.0, 0.1)


class ContentRules(Subject):
    """What was recorded is what the vendor holds."""

    def test_metrics_arrive_with_value_and_step(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        steps = (3, 0, -2, 2**40, 3)
        self.send(talk, *(loss(n, step, LOSSES[n]) for n, step in enumerate(steps)))
        expected = [point_of("loss", step, talk.rounded(LOSSES[n])) for n, step in enumerate(steps)]
        assert sorted(talk.points()) == sorted(expected), "rule: no point is lost, added or changed"

    def test_several_values_of_one_event_arrive(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        values = {"loss": 0.25, "val/acc": 0.5, "lr": 0.125}
        self.send(talk, Metrics(AT, 1, values))
        assert sorted(talk.points()) == sorted(point_of(name, 1, value) for name, value in values.items())

    def test_points_keep_their_order(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        for first in range(0, 30, 10):
            self.send(talk, *(loss(n, n // 3, float(n)) for n in range(first, first + 10)))
        assert [float(value) for _, _, value in talk.points()] == list(range(30)), "rule: oldest first"

    def test_nan_and_infinities_are_kept_as_declared(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        capabilities = talk.backend.capabilities
        values = [math.nan] * capabilities.nan + [math.inf, -math.inf] * capabilities.infinities
        if not values:
            pytest.skip("its capabilities say that it keeps neither NaN nor infinities")
        self.send(talk, *(loss(n, n, value) for n, value in enumerate([*values, 1.0])))
        expected = [point_of("loss", n, value) for n, value in enumerate([*values, 1.0])]
        assert sorted(talk.points()) == sorted(expected), (
            "rule: keep them, or say nan=False, infinities=False"
        )

    def test_names_stay_apart(self, talk: Conversation) -> None:
        self.needs(talk, "metrics")
        longest = talk.backend.capabilities.max_name_length or 300
        names = [f"{'n' * longest}{end}" for end in "ab"] + ["a/b", "a b", "a.b", "ä", "a%b", "../a"]
        self.send(talk, Metrics(AT, 0, {name: float(n) for n, name in enumerate(names)}))
        assert sorted(talk.points()) == sorted(point_of(name, 0, float(n)) for n, name in enumerate(names)), (
            "rule: two names are two metrics - say name_pattern and max_name_length: the core makes them fit"
        )

    def test_params_arrive(self, talk: Conversation) -> None:
        self.needs(talk, "params")
        self.send(talk, Params(AT, {"lr": 0.1, "depth": 3, "flag": True}), Params(AT, {"name": "x y"}))
        self.send(talk, Params(AT, {"late": "z"}))
        expected = {"lr": "0.1", "depth": "3", "flag": "True", "name": "x y", "late": "z"}
        assert talk.params() == expected, "rule: every param arrives, also those of a later batch"

    def test_of_two_values_of_a_param_the_right_one_counts(self, talk: Conversation) -> None:
        """Ask for the value that `conflict` says.

        A vendor that cannot change a param may keep the first value, if the receipt says so.
        """
        self.needs(talk, "params")
        self.send(talk, Params(AT, {"lr": 0.1, "depth": 3}))
        self.send(talk, Params(AT + 1, {"lr": 0.2}, "keep_first"))
        overwriting = Params(AT + 2, {"depth": 4}, "overwrite")
        receipt = self.send(talk, overwriting, Params(AT + 3, {"lr": 0.3}, "keep_first"))
        held = talk.params()
        assert held["lr"] == "0.1", 'rule: with conflict="keep_first" the earlier value counts'
        right = {"4", "3"} if talk.is_lowered(overwriting, receipt) else {"4"}
        assert held["depth"] in right, (
            'rule: with conflict="overwrite" this value counts - or say in Receipt.lowered where it is'
        )

    def test_the_latest_value_of_a_tag_counts(self, talk: Conversation) -> None:
        self.needs(talk, "tags")
        self.send(talk, Tags(AT, {"stage": "dev", "team": "x"}))
        self.send(talk, Tags(AT + 1, {"stage": "prod"}))
        assert talk.tags() == {"stage": "prod", "team": "x"}

    def test_the_end_arrives_though_it_comes_last(self, talk: Conversation) -> None:
        self.needs(talk, "run_finished")
        self.send(talk, *numbered(talk.backend, 0))
        self.send(talk, *numbered(talk.backend, 1), RunFinished(AT + 2, "FAILED", "it was too hot"))
        end = talk.end()
        assert end is not None, "rule: the last event counts like any other"
        assert (end.status, end.reason) == ("FAILED", "it was too hot")

    def test_content_arrives_to_the_last_byte(self, talk: Conversation) -> None:
        self.needs(talk, "artifact")
        binary = bytes(range(256)) * 20
        files = [
            Artifact(AT, "notes.txt", 5, "text", "text/plain", data=b"hello"),
            Artifact(AT, "deep/data.bin", len(binary), "file", data=binary),
            Artifact(AT, "deep/data.bin", 3, "file", data=b"\0\1\2", step=7),
            Artifact(AT, "empty", 0, "file", data=b""),
        ]
        self.send(talk, *files)
        taken = {
            (one.path, one.step): one.data for one in files if one.role in talk.backend.capabilities.roles
        }
        held = talk.artifacts()
        assert {where: held.get(where) for where in taken} == taken, (
            "rule: the bytes of an artifact are its value"
        )
