"""The protocol event by event: what is asked of a method, and how it answered.

The same for the model and for every baseline, so that all of them are asked the same. Works on ids alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stream_rec.config import StateSettings
from stream_rec.evaluation.baselines.base import Player, Turn, put_newest
from stream_rec.evaluation.ranking_metrics import MAX_RANK, MISS, ListSpread, RankHistogram, rank_of
from stream_rec.evaluation.stream_memory import StreamMemory
from stream_rec.evaluation.study.answers import Answers, Question
from stream_rec.evaluation.study.choices import Choices, share_of
from stream_rec.evaluation.study.gains import MAX_ANY_RANK
from stream_rec.records import Event


class Exam(NamedTuple):
    """One event that counts, as things stood just before it."""

    turn: Turn
    question: Question
    is_scored: bool
    is_known: bool  # the stream has shown the item; if not it is a miss for everybody


class _ItemPast(NamedTuple):
    number: int  # of the items, in the order in which the stream first shows them
    first_at: int  # events counted before it was first shown
    times: int


class Examiner:
    """Sets exams in the order of the log and keeps how they were answered.

    Events whose type weighs 0 are no exams and not learnt; with ``novel`` items that the user has had are not asked
    for and must not be listed; the first ``burn_in_events`` events, of whatever type, are not scored. What is
    remembered is bounded as in ``StreamMemory``; answers grow with the log, some numbers an event.

    With ``choices`` only those are listed, all of them, whatever the user has had, and only events that bring some are
    scored; an event that weighs 0 may. ``is_uniform`` says that the method draws from all of its list.
    """

    def __init__(
        self,
        state: StateSettings,
        event_weights: Mapping[str, float],
        *,
        novel: bool,
        burn_in_events: int,
        choices: Choices | None = None,
        is_uniform: bool = False,
    ) -> None:
        self._choices = choices
        self._is_uniform = is_uniform
        self._memory = StreamMemory(state, event_weights, novel=novel)
        self._burn_in_events = burn_in_events
        self._max_users = state.max_users
        self._max_items = state.max_items
        self._user_events: OrderedDict[str, int] = OrderedDict()
        self._items: OrderedDict[str, _ItemPast] = OrderedDict()
        self._num_items = 0
        self._num_counted = 0
        self.num_observed = 0
        self.answers = Answers()
        self.histogram = RankHistogram()
        self._spread = ListSpread(state.max_items)

    def ask(self, events: Sequence[Event]) -> list[Exam | None]:
        """One exam an event, None for one that does not count; they have all happened then."""
        return [self._ask(event) for event in events]

    def grade(self, exams: Sequence[Exam | None], lists: Sequence[Sequence[str]]) -> None:
        """Take down the answers: for each exam the list (item ids, best first) of just before its event."""
        for exam, items in zip(exams, lists, strict=True):
            if exam is not None and exam.is_scored:
                event = exam.turn.event
                rank = rank_of(event.item_id, items) if exam.is_known else MISS
                self.histogram.update(rank)
                self._spread.update(items)
                stake = None
                if self._choices:
                    stake = self._choices.stake(event, share_of(items, event.item_id, is_uniform=self._is_uniform))
                max_rank = MAX_ANY_RANK if self._choices else MAX_RANK
                self.answers.append(exam.question, rank if rank <= max_rank else MISS, stake)

    def spread(self) -> dict[str, float]:
        """Coverage and personalisation of the lists so far."""
        return {
            "coverage@10": self._spread.coverage(self._memory.known()),
            "personalisation@10": self._spread.personalisation(),
        }

    def examine(self, player: Player, events: Sequence[Event], k: int) -> None:
        """One micro-batch of a player: 1. ask; 2. it lists k items for each event and learns; 3. grade."""
        exams = [exam for exam in self.ask(events) if exam is not None]
        if exams:
            self.grade(exams, player.play([exam.turn for exam in exams], k))

    def _ask(self, event: Event) -> Exam | None:
        is_burnt_in = self.num_observed >= self._burn_in_events
        self.num_observed += 1
        weight = self._memory.weight(event)
        if self._choices:
            return self._ask_to_choose(event, weight, self._choices, is_burnt_in)
        if weight <= 0:
            return None
        # A copy: within the batch the user goes on, and what he takes next is no secret kept from this list.
        exclude = frozenset(self._memory.consumed(event.user_id))
        is_known = event.item_id in self._memory.known()
        question = self._question(event, counts=True)
        self._memory.take(event)
        is_scored = is_burnt_in and event.item_id not in exclude
        return Exam(Turn(event, weight, exclude), question, is_scored, is_known)

    def _ask_to_choose(self, event: Event, weight: float, choices: Choices, is_burnt_in: bool) -> Exam | None:
        among = choices.of(event, weight)
        choices.take(event)
        if among is None and weight <= 0:
            return None
        question = self._question(event, counts=weight > 0)
        if weight > 0:
            self._memory.take(event)
        is_scored = is_burnt_in and among is not None and event.item_id in among
        return Exam(Turn(event, weight, frozenset(), among), question, is_scored, is_known=True)

    def _question(self, event: Event, *, counts: bool) -> Question:
        history_length = self._user_events.get(event.user_id, 0)
        past = self._items.get(event.item_id)
        if past is None:
            past = _ItemPast(self._num_items, self._num_counted, 0)
            self._num_items += 1
        put_newest(self._items, event.item_id, past._replace(times=past.times + counts), self._max_items)
        age = self._num_counted - past.first_at
        if counts:
            put_newest(self._user_events, event.user_id, history_length + 1, self._max_users)
            self._num_counted += 1
        return Question(event.timestamp_ms, past.number, history_length, past.times, age)
