"""Prequential (test, then learn) measurement of the lists, beside baselines that see exactly the same events.

Every event is an exam before it is a lesson (Gama, Sebastião & Rodrigues 2013): the lists as they stood are scored
against the item that the user then took, and only afterwards do the baselines learn from it. Protocol:

- Events whose type weighs 0 (impressions, by default) are neither scored nor learnt from.
- With ``ranking.exclude_seen`` only events on items that are new to that user are scored, since a consumed item
  cannot be in a list. Without it every event is.
- An item that the stream had not shown before is a miss for every method, and counts.

Works on ids alone and knows nothing of models or tensors, so that it can judge them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from river.utils import Rolling

from stream_rec.config import EvaluationSettings, RankingSettings, StateSettings
from stream_rec.evaluation.baselines.base import Baseline, put_newest
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.evaluation.baselines.transitions import Transitions
from stream_rec.evaluation.ranking_metrics import MAX_RANK, MISS, ListSpread, RankHistogram, rank_of
from stream_rec.evaluation.stream_memory import StreamMemory
from stream_rec.records import Event, Recommendation

MODEL = "model"
Lists = list[tuple[str, ...]]  # one a method, in the order of ``methods``


class MethodScores:
    """How one method did: over the whole stream after burn-in, and over the newest scored events."""

    def __init__(self, window_events: int, max_items: int) -> None:
        self.whole = RankHistogram()
        self.window = Rolling(RankHistogram, window_size=window_events)
        self.spread = ListSpread(max_items)

    def update(self, rank: int, items: Sequence[str], burnt_in: bool) -> None:
        """Score one event by the rank of its item in ``items``."""
        self.window.update(rank)
        if burnt_in:
            self.whole.update(rank)
            self.spread.update(items)

    def state(self) -> dict[str, Any]:
        """JSON-able."""
        ranks = [args[0] for args, _ in self.window.window]
        return {"whole": self.whole.state(), "window": ranks, "spread": self.spread.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; of a longer window the newest part."""
        self.whole.load_state(state["whole"])
        self.window = Rolling(RankHistogram, window_size=self.window.window_size)
        for rank in state["window"]:
            self.window.update(rank)
        self.spread.load_state(state["spread"])


class PrequentialEvaluator:
    """Scores the model and its baselines on a stream of events.

    ``event_weights`` are those of ``learning.event_weights``; types not named weigh 1. The first ``burn_in_events``
    observed events, of whatever type, are kept out of ``whole()`` and ``num_scored``, not out of ``window()``.
    Baselines' lists are as long as the model's (``ranking.list_length``, at most 20).
    """

    def __init__(
        self,
        evaluation: EvaluationSettings,
        ranking: RankingSettings,
        state: StateSettings,
        event_weights: dict[str, float],
        *,
        burn_in_events: int = 0,
    ) -> None:
        self._burn_in_events = burn_in_events
        self._list_length = min(MAX_RANK, ranking.list_length)
        self._max_users = state.max_users
        self._max_items = state.max_items
        self._window_events = evaluation.window_events
        self._baselines = _baselines(evaluation, state) if evaluation.baselines else []
        self.methods = (MODEL, *(baseline.name for baseline in self._baselines))
        self._scores = self._fresh_scores()
        self.num_observed = 0
        self._memory = StreamMemory(state, event_weights, novel=ranking.exclude_seen)
        self._remembered: OrderedDict[str, Lists] = OrderedDict()

    @property
    def num_scored(self) -> int:
        """Scored events after burn-in."""
        return self._scores[0].whole.num_scored

    def observe_fresh(self, events: Sequence[Event], lists: Sequence[Sequence[str]]) -> None:
        """Take events in the order of the log, each with the model's list made just before it (item ids, best first).

        For each event: 1. score the model's list and the baselines', made at this moment; 2. the baselines learn;
        3. the item joins what the user has consumed. Raises ValueError where there is not one list an event.
        """
        for event, items in zip(events, lists, strict=True):
            self._observe(event, items)

    def observe_published(self, events: Sequence[Event]) -> None:
        """The same, scored by the lists remembered for the user; where there are none, a miss for every method."""
        for event in events:
            self._observe(event, None)

    def remember(self, lists: Sequence[Recommendation], now_ms: int) -> None:
        """Lists that have just been acknowledged are what their users see from now on.

        The baselines' lists are made at the same moment and remembered beside them: they go stale together.
        """
        for published in lists:
            user_id = published.user_id
            model_list = tuple(item.item_id for item in published.items[: self._list_length])
            both = [model_list, *self._baseline_lists(user_id, now_ms)]
            put_newest(self._remembered, user_id, both, self._max_users)

    def remembered(self, user_id: str) -> tuple[str, ...]:
        """The model's list that the user sees now, item ids, best first; empty where none was acknowledged yet."""
        lists = self._remembered.get(user_id)
        return lists[0] if lists else ()

    def whole(self) -> dict[str, dict[str, float]]:
        """Method → metric → value over the stream after burn-in; ``METRICS`` names the six of them.

        Looks through all items ever listed: for reports, not for every batch.
        """
        known = self._memory.known()
        return {
            method: {
                **scores.whole.accuracy(),
                "coverage@10": scores.spread.coverage(known),
                "personalisation@10": scores.spread.personalisation(),
            }
            for method, scores in zip(self.methods, self._scores, strict=True)
        }

    def window(self) -> dict[str, dict[str, float]]:
        """Method → metric → value over the last ``evaluation.window_events`` scored events; ``ACCURACY`` names them."""
        return {method: scores.window.obj.accuracy() for method, scores in zip(self.methods, self._scores, strict=True)}

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Store → entries, capacity: everything here that grows."""
        sizes = {
            **self._memory.sizes(),
            "users with remembered lists": (len(self._remembered), self._max_users),
            "window": (len(self._scores[0].window.window), self._window_events),
        }
        for method, scores in zip(self.methods, self._scores, strict=True):
            sizes[f"items listed by {method}"] = (len(scores.spread), self._max_items)
        for baseline in self._baselines:
            sizes.update(baseline.sizes())
        return sizes

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs to report the same figures as an uninterrupted one; JSON-able."""
        return {
            "num_observed": self.num_observed,
            **self._memory.state(),
            "remembered": [[user, [list(items) for items in lists]] for user, lists in self._remembered.items()],
            "methods": list(self.methods),
            "scores": [scores.state() for scores in self._scores],
            "baselines": {baseline.name: baseline.state() for baseline in self._baselines},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` gave; what goes beyond the bounds of now is dropped, the oldest first.

        With other baselines configured than those that were saved, scores and remembered lists start anew, since
        figures compare only over the same events; baselines of the same name keep what they have learnt.
        """
        self.num_observed = state["num_observed"]
        self._memory.load_state(state)
        self._remembered = OrderedDict()
        self._scores = self._fresh_scores()
        for baseline in self._baselines:
            if baseline.name in state["baselines"]:
                baseline.load_state(state["baselines"][baseline.name])
        if state["methods"] != list(self.methods):
            return
        for scores, saved in zip(self._scores, state["scores"], strict=True):
            scores.load_state(saved)
        for user, lists in state["remembered"]:
            put_newest(self._remembered, user, [tuple(items) for items in lists], self._max_users)

    def _observe(self, event: Event, fresh: Sequence[str] | None) -> None:
        """Score, learn, remember, in this order. ``fresh`` is the model's list; None takes the remembered ones."""
        burnt_in = self.num_observed >= self._burn_in_events
        self.num_observed += 1
        weight = self._memory.weight(event)
        if weight <= 0:
            return
        if event.item_id not in self._memory.consumed(event.user_id):
            self._score(event, fresh, burnt_in)
        for baseline in self._baselines:
            baseline.update(event, weight)
        self._memory.take(event)

    def _score(self, event: Event, fresh: Sequence[str] | None, burnt_in: bool) -> None:
        lists: Sequence[Sequence[str]]
        if fresh is None:
            lists = self._remembered.get(event.user_id) or [()] * len(self.methods)
        else:
            model_list = tuple(fresh[: self._list_length])
            lists = [model_list, *self._baseline_lists(event.user_id, event.timestamp_ms)]
        # The catalogue may have put the item into a list, but nothing could be known of it: the protocol's miss.
        known = event.item_id in self._memory.known()
        for scores, items in zip(self._scores, lists, strict=True):
            scores.update(rank_of(event.item_id, items) if known else MISS, items, burnt_in)

    def _baseline_lists(self, user_id: str, now_ms: int) -> Lists:
        exclude = self._memory.consumed(user_id)
        return [tuple(baseline.top(user_id, now_ms, self._list_length, exclude)) for baseline in self._baselines]

    def _fresh_scores(self) -> list[MethodScores]:
        return [MethodScores(self._window_events, self._max_items) for _ in self.methods]


def _baselines(evaluation: EvaluationSettings, state: StateSettings) -> list[Baseline]:
    # A half-life given twice is one baseline; the freshest comes first.
    half_lives = sorted(set(evaluation.baseline_popularity_half_lives_s))
    popularity = [Popularity(half_life_s, max_items=state.max_items) for half_life_s in (*half_lives, None)]
    transitions = Transitions(
        evaluation.baseline_transition_half_life_s,
        evaluation.baseline_neighbours,
        max_users=state.max_users,
        max_items=state.max_items,
        # The freshest popularity: where taste moves, filling up with that of all time halves the hits of transitions.
        fill=popularity[0],
    )
    return [*popularity, transitions]
