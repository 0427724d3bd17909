"""A batch on its way: what of the journal stands in it, and what the backend's answer makes of each event."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mlobs.backend import Entry, Receipt
from mlobs.delivery.keys import root_key
from mlobs.delivery.rolling import Roll
from mlobs.delivery.state import Note, Outcome
from mlobs.events import kind_of

Outcomes: TypeAlias = Mapping[str, tuple[Outcome, str, str]]  # (outcome, reason, kind) by the event's key


@dataclass(frozen=True)
class Draft:
    """The next events of one writer, as the backend takes them; `until` is where they end.

    `outcomes` holds (outcome, reason, kind) of those that were lowered or skipped, by key.
    `joined` holds the keys of all events that an entry stands for, itself included, where that is a
    file of log lines; `roll` is the writer's last such file behind them. `has_end`: the end of the
    run's latest attempt is among them.
    """

    writer: str
    until: int
    events: int
    entries: tuple[Entry, ...]
    outcomes: Outcomes
    joined: Mapping[str, tuple[str, ...]]
    roll: Roll
    has_end: bool = False


def answered(draft: Draft, receipt: Receipt) -> Outcomes:
    """What became of the events of a draft, given the backend's answer to their entries.

    An event is rejected, or skipped, if the entry that stands for it is. If only a part that was
    derived from it is, the rest arrived: that is lowering, and its reason stands beside the others.
    """
    receipt = _for_each(receipt, draft.joined) if draft.joined else receipt
    outcomes = dict(draft.outcomes)
    kinds = {key: kind for key, (_, _, kind) in outcomes.items()}
    kinds |= {entry.key: kind_of(entry.event) for entry in draft.entries}
    not_stored: tuple[tuple[Outcome, Mapping[str, str]], ...]
    not_stored = ("skipped", receipt.skipped), ("rejected", receipt.rejected)
    in_part = {key: why for _, of in not_stored for key, why in of.items() if root_key(key) != key}
    for key, reason in [*receipt.lowered.items(), *in_part.items()]:
        if key in kinds:
            root = root_key(key)
            _, earlier, kind = outcomes.get(root, ("lowered", "", kinds.get(root, kinds[key])))
            outcomes[root] = ("lowered", f"{earlier}; {reason}" if earlier else reason, kind)
    for word, of in not_stored:
        for key, reason in of.items():
            if key in kinds and key not in in_part:
                outcomes[key] = (word, reason, outcomes[key][2] if key in outcomes else kinds[key])
    return outcomes


def _for_each(receipt: Receipt, joined: Mapping[str, tuple[str, ...]]) -> Receipt:
    """Give the answer to an entry to each event that it stands for."""

    def each(reasons: Mapping[str, str]) -> Mapping[str, str]:
        return {one: reason for key, reason in reasons.items() for one in joined.get(key, (key,))}

    return dataclasses.replace(
        receipt,
        rejected=each(receipt.rejected),
        lowered=each(receipt.lowered),
        skipped=each(receipt.skipped),
    )


def notes_on(outcomes: Outcomes) -> tuple[Note, ...]:
    """Group what did not arrive as it was by reason; a rejected event keeps a note of its own."""
    counts: Counter[tuple[Outcome, str, str, str]] = Counter()
    first: dict[tuple[Outcome, str, str, str], str] = {}
    for key, (outcome, reason, kind) in outcomes.items():
        group = (outcome, reason, kind, key if outcome == "rejected" else "")
        counts[group] += 1
        first.setdefault(group, key)
    return tuple(
        Note(outcome=group[0], reason=group[1], kind=group[2], key=first[group], count=count)
        for group, count in counts.items()
    )
