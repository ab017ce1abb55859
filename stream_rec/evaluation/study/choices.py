"""Exams in which only a few items can be listed: a list to be put in order again, or the actions of a logged policy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from stream_rec.evaluation.baselines.base import Baseline, Player, Scorer, Turn, put_newest
from stream_rec.evaluation.baselines.registry import BASELINES, Bounds
from stream_rec.evaluation.study.answers import Stake
from stream_rec.evaluation.study.plan import ALL_ACTIONS, OFF_POLICY, StreamSpec
from stream_rec.records import Event

PROPENSITY = "propensity"  # field of the context
UNIFORM = "uniform"
TOP = 10  # a policy draws one of so many first items of its order, each as likely


class Choices(Protocol):
    """Which items can be listed at an event."""

    def of(self, event: Event, weight: float) -> tuple[str, ...] | None:
        """In the order in which they are shown, each once; None where nothing is chosen."""
        ...

    def take(self, event: Event) -> None:
        """The event has happened."""
        ...

    def shown(self, event: Event) -> Event:
        """The event with what was shown with it."""
        ...

    def stake(self, event: Event, share: float) -> Stake | None:
        """What judging a policy by the event takes; ``share`` is how likely that policy is to do the same."""
        ...


def choices_of(spec: StreamSpec, max_items: int) -> Choices | None:
    """Those of a stream's mode; None where all items can be listed."""
    if spec.mode == OFF_POLICY:
        return LoggedActions(spec.actions, max_items)
    return Shown() if spec.is_choice else None


class Shown:
    """The impressions of an event that counts."""

    def of(self, event: Event, weight: float) -> tuple[str, ...] | None:
        """As ``Choices``."""
        items = tuple(dict.fromkeys(event.impressions))
        return items if items and weight > 0 else None

    def take(self, event: Event) -> None:
        """As ``Choices``: what is shown comes with its event."""

    def shown(self, event: Event) -> Event:
        """As ``Choices``: it says so itself."""
        return event

    def stake(self, event: Event, share: float) -> Stake | None:
        """As ``Choices``: nothing was drawn."""
        return None


class LoggedActions:
    """The items that the log has shown so far, of those whose event had the same value in the field ``actions``.

    Bounded: of a value's ``max_items`` items the one that was first shown longest ago makes room.
    """

    def __init__(self, actions: str, max_items: int) -> None:
        self._actions = actions
        self._max_items = max_items
        self._items: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()  # value → items, as first shown

    def of(self, event: Event, weight: float) -> tuple[str, ...] | None:
        """As ``Choices``; an event without propensity was not drawn by a policy."""
        if not self._propensity(event) > 0:
            return None
        return tuple(self._items.get(self._value(event), ())) or None

    def take(self, event: Event) -> None:
        """As ``Choices``."""
        value = self._value(event)
        items = self._items.get(value, OrderedDict())
        put_newest(self._items, value, items, self._max_items)
        if event.item_id not in items:
            put_newest(items, event.item_id, None, self._max_items)

    def shown(self, event: Event) -> Event:
        """As ``Choices``: where the event names nothing else, its own item was drawn and shown."""
        if event.impressions or not self._propensity(event) > 0:
            return event
        return msgspec.structs.replace(event, impressions=[event.item_id])

    def stake(self, event: Event, share: float) -> Stake | None:
        """As ``Choices``; the reward is the event's value."""
        return Stake(share, self._propensity(event), event.value or 0.0)

    def _value(self, event: Event) -> str:
        return "" if self._actions == ALL_ACTIONS else str(event.context.get(self._actions, ""))

    def _propensity(self, event: Event) -> float:
        propensity = event.context.get(PROPENSITY, 0.0)
        return propensity if isinstance(propensity, float | int) else 0.0


def share_of(items: Sequence[str], item: str, *, is_uniform: bool) -> float:
    """How likely a policy is to choose the item, that draws one of the ``TOP`` first of its order, or of all."""
    drawn = items if is_uniform else items[:TOP]
    return 1.0 / len(drawn) if item in drawn else 0.0


class Reorder:
    """Plays a baseline that can score given items: in the order of their scores, equals as they were shown."""

    def __init__(self, baseline: Baseline, scorer: Scorer) -> None:
        self._baseline = baseline
        self._scorer = scorer

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        """As ``Player``; all of ``among``, and nothing where there is none."""
        lists = []
        for event, weight, _, among in turns:
            items: list[str] = []
            if among:
                scores = self._scorer.scores(event.user_id, event.timestamp_ms, among)
                items = [among[place] for place in _by_score(scores)]
            if weight > 0:
                self._baseline.update(event, weight)
            lists.append(items)
        return lists


class AsShown:
    """Leaves the items in the order in which they were shown."""

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        """As ``Player``."""
        return [list(turn.among or ()) for turn in turns]


class CheapestFirst:
    """By the price beside each item; those without one last, equals as they were shown."""

    def play(self, turns: Sequence[Turn], k: int) -> list[list[str]]:
        """As ``Player``."""
        lists = []
        for turn in turns:
            event, among = turn.event, turn.among or ()
            price_of = dict(zip(event.impressions, event.prices, strict=False))
            prices = [float("inf") if (price := price_of.get(item)) is None else price for item in among]
            lists.append([among[place] for place in _by_score([-price for price in prices])])
        return lists


ONLY_HERE: dict[str, Callable[[], Player]] = {
    "position-only": AsShown,
    "price-only": CheapestFirst,
    UNIFORM: AsShown,
}


def choosing_player(name: str, bounds: Bounds, seed: int) -> Player:
    """A new player of a baseline that ``plan`` allows for streams with choices."""
    if name in ONLY_HERE:
        return ONLY_HERE[name]()
    baseline = BASELINES[name].make(bounds, seed)
    assert isinstance(baseline, Scorer), name
    return Reorder(baseline, baseline)


def _by_score(scores: Sequence[float]) -> list[int]:
    """Places, the highest score first; a stable sort leaves equals as they are."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])
