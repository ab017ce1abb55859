"""The learner: what the worker needs of state, model, training and ranking, behind one door."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from msgspec import structs

from stream_rec.config import Settings
from stream_rec.learning.ordering import Ordering
from stream_rec.learning.trainer import Trainer
from stream_rec.models.blend import Blend
from stream_rec.models.leader import Leader
from stream_rec.models.network import Network
from stream_rec.ranking.exploration import Exploration, compose
from stream_rec.ranking.ranker import REASONS, Look, Ranked, Ranker
from stream_rec.records import EXPLORED, Event, ItemUpdate, RankedItem
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from stream_rec.state.shown import ShownList, shown_with


class Learner:
    """Learns from events in batches and ranks for users.

    The order of one step: ``enter`` the batch, ``rank_entered`` (what would have been shown just before each
    event, optional), ``learn``, ``rank`` (what to show now).
    """

    def __init__(self, settings: Settings) -> None:
        device = torch.device(settings.worker.device)
        self.batch = 0
        self.num_skipped = 0
        self.gradient_norm = math.nan
        self.task_losses: dict[str, float] = {}  # of the last batch; 1 is always saying the average, NaN no event
        self._list_length = settings.ranking.list_length
        self._encoder_name = settings.model.encoder
        self.memory = Memory(settings, device)
        self.network = Network(settings, device)
        self.blend = Blend(device)
        self.leader = Leader(2 + self.network.mixture.num_statistics, device)
        self.ranker = Ranker(settings, self.memory, self.network, self.blend, self.leader)
        self.trainer = Trainer(settings, self.memory, self.network, self.blend, self.leader)
        self._exploration = Exploration(settings)
        self._reads_impressions = settings.learning.impressions != "off" or settings.learning.order_shown
        self.ordering: Ordering | None = None
        if settings.learning.order_shown:
            second_stage = self.network.second_stage
            self.ordering = Ordering(settings, second_stage.num_features, second_stage.num_moment_features, device)
        self._looked: tuple[Moments, Look] | None = None

    @property
    def version(self) -> str:
        """Name of the model as it stands: architecture and batches learnt."""
        return f"{self._encoder_name}-{self.batch}"

    def rates(self) -> dict[str, float]:
        """Learning rates of the next step, by part."""
        return self.trainer.rates(self.batch)

    def update_catalogue(self, updates: Sequence[ItemUpdate]) -> None:
        """Take in changes of the catalogue."""
        self._new_items(self.memory.update_catalogue(updates))

    def enter(self, events: Sequence[Event]) -> Moments:
        """Give a batch's users and items rows and read what the events found. At least one event."""
        moments, new_rows = self.memory.enter(events)
        self._new_items(new_rows)
        self.network.new_users(moments.new_users)
        if self._reads_impressions:
            shown = [shown_with(event, self.memory.weight(event)) for event in events]
            moments.shown = self.memory.lists(shown, moments, new_rows)
        return moments

    def _new_items(self, rows: list[int]) -> None:
        if rows:
            self.trainer.sampler.forget_items(rows)
            # The vocabulary's own counter, since the catalogue can bring items between two batches.
            self.network.new_items(rows, self.memory.items.tick)

    def rank_entered(self, moments: Moments) -> list[list[str]]:
        """For each event of a batch the list of just before it (the prequential protocol): item ids, best first."""
        look = self._look(moments)
        rows_BK = self.ranker.order(look, moments, self._list_length).rows_BK.tolist()
        ids = self.memory.items.id
        return [[ids(row) for row in rows if row] for rows in rows_BK]

    def rerank_entered(
        self, moments: Moments, lists: Sequence[ShownList | None], new_rows: Sequence[int] = ()
    ) -> list[list[str]]:
        """For each event of a batch the items of a given list in order, seen from just before it; best first.

        ``new_rows`` are the item rows that came with the batch. Changes nothing; needs ``learning.order_shown``.
        """
        assert self.ordering, "learning.order_shown is off"
        shown = self.memory.lists(lists, moments, new_rows)
        if shown is None:
            return [[] for _ in lists]
        known = self.ranker.look_at(shown.rows_BK, moments, self._look(moments))
        scores_BK = self.ordering.scores(moments, shown, known)
        # Stable: equals stay as they were given.
        order_BK = torch.argsort(scores_BK, dim=1, descending=True, stable=True).tolist()
        return [
            [one.items[place] for place in order if place < len(one.items)] if one else []
            for one, order in zip(lists, order_BK, strict=True)
        ]

    def rerank(self, requests: Sequence[Event]) -> list[list[str]]:
        """The impressions of each request (an event of a user who has taken nothing yet) in order, best first.

        Changes nothing; needs ``learning.order_shown``.
        """
        moments = self.memory.looking(requests)
        return self.rerank_entered(moments, [shown_with(request, 0.0) for request in requests])

    def _look(self, moments: Moments) -> Look:
        """Once a batch: learning needs the same."""
        if self._looked is None or self._looked[0] is not moments:
            self._looked = moments, self.ranker.look(moments)
        return self._looked[1]

    def learn(self, moments: Moments) -> float:
        """One guarded step, then statistics and histories; the rates of the next one follow from its losses.

        Returns the loss; NaN where the step was left out.
        """
        look, self._looked = self._look(moments), None
        if moments.shown:
            known = self.ranker.look_at(moments.shown.rows_BK, moments, look)
            self.trainer.learn_from_shown(moments.shown, known[1], self.batch)
            if self.ordering:
                self.ordering.learn(moments, moments.shown, known, self.batch)
        outcome = self.trainer.step(moments, look, self.batch)
        self.memory.update(moments)
        self.trainer.sampler.observe(moments.items[moments.counts])
        self.batch += 1
        losses = [outcome.statistics_loss, outcome.residual_loss, outcome.list_loss]
        scalars = [outcome.loss, outcome.gradient_norm, outcome.sound, *losses]
        figures = torch.cat([torch.stack(scalars), outcome.task_losses_T]).tolist()
        loss, self.gradient_norm, sound, *of_parts = figures[: len(scalars)]
        if self.network.tasks:
            self.task_losses = dict(zip(self.network.tasks.names, figures[len(scalars) :], strict=True))
        self.trainer.adapt(of_parts, int(moments.counts.sum()))
        if not sound:
            self.num_skipped += 1
            return math.nan
        return float(loss)

    def rank(self, newest: Sequence[Event]) -> list[list[RankedItem]]:
        """Fresh lists for the users of these events (one event a user, his newest), seen from just after them."""
        moments = self.memory.looking(newest)
        if self._exploration.share > 0:
            return self._exploring(newest, moments)
        return self._lists(self.ranker.rank(moments, self._list_length))

    def _exploring(self, newest: Sequence[Event], moments: Moments) -> list[list[RankedItem]]:
        """Lists some of whose places are drawn; all of them say how likely they were."""
        exploration, id_of = self._exploration, self.memory.items.id
        new_N = exploration.new_rows(self.memory, moments)
        look = self.ranker.look(moments, new_N)
        new, chance_BN = new_N.tolist(), exploration.chances(look.new_first_BN)
        place_in_new = {row: n for n, row in enumerate(new)}
        new_scores = look.new_first_BN.tolist()
        lists = []
        for index, best in enumerate(self._lists(self.ranker.order(look, moments, self._list_length))):
            rows = [self.memory.items.row(item.item_id) for item in best]
            rng = exploration.rng(self.batch, newest[index].user_id)
            earned = dict(zip(rows, best, strict=True))
            ranked: list[RankedItem] = []
            for place in compose(rows, new, place_in_new, chance_BN[index], exploration.share, rng):
                item = earned.get(place.row)
                if place.is_drawn or item is None:
                    score = round(new_scores[index][place_in_new[place.row]], 4)
                    item = RankedItem(id_of(place.row), score, 0, [EXPLORED])
                ranked.append(structs.replace(item, rank=len(ranked) + 1, propensity=place.propensity))
            lists.append(ranked)
        return lists

    def _lists(self, ranked: Ranked) -> list[list[RankedItem]]:
        ids = self.memory.items.id
        return [
            [
                RankedItem(ids(row), round(score, 4), place + 1, [REASONS[reason]])
                for place, (row, score, reason) in enumerate(zip(rows, scores, reasons, strict=True))
                if row
            ]
            for rows, scores, reasons in zip(
                ranked.rows_BK.tolist(), ranked.scores_BK.tolist(), ranked.reason_BK.tolist(), strict=True
            )
        ]

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on: nested dicts of tensors, arrays and JSON values."""
        return {
            "batch": self.batch,
            "num_skipped": self.num_skipped,
            "memory": self.memory.state(),
            "network": self.network.state(
                self.memory.num_item_rows, self.memory.num_user_rows, self.memory.catalogue.num_features
            ),
            "blend": self.blend.state(),
            "leader": self.leader.state(),
            "trainer": self.trainer.state(),
            "ordering": self.ordering.state() if self.ordering else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``; the learner must be new. Raises ValueError where the model is another one."""
        self.batch = state["batch"]
        self.num_skipped = state["num_skipped"]
        self.memory.load_state(state["memory"])
        self.network.load_state(state["network"])
        self.blend.load_state(state["blend"])
        self.leader.load_state(state["leader"])
        self.trainer.load_state(state["trainer"])
        if self.ordering:
            self.ordering.load_state(state["ordering"])
