"""Learning to put given lists in order, from what was taken of those that were shown, and from those left alone.

One softmax over the places of a list and over taking nothing: of a list of one it is a logistic regression, so that a
log of single items, shown and taken or not, teaches as well as a page of them does. The place is known while learning;
where lists are yet to be made it is left out, and what it did to the clicks with it.

Shapes: B = moments, K = places, F = features of an item, P = parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.learning.optimisers import AdamW
from stream_rec.learning.replay import Exams, ReplayBuffer
from stream_rec.learning.reranking import listwise_loss
from stream_rec.models.candidates import Candidates
from stream_rec.models.leader import Leader
from stream_rec.models.second_stage import Standardiser
from stream_rec.models.shown import ShownOrder
from stream_rec.ranking.ranker import Seen
from stream_rec.ranking.shown import NUM_SHOWN_FEATURES, NUM_SIMPLE_PARTS, ShownLook, look_at_shown
from stream_rec.state.exposures import Exposures
from stream_rec.state.moments import Moments
from stream_rec.state.shown import ShownLists

NUM_OLD_STEPS = 2  # on as many old lists each, with every batch
TRUSTED_TAKEN = 1_000.0  # items taken at which half of what was learnt counts where items have no places yet
LEAST_VARIANCE = 1e-7

Known = tuple[Seen, Candidates]  # of the items of the lists, as ``Ranker.look_at`` has it


class Ordering:
    """Scores given lists and learns from shown ones. What it does not lead by it goes on learning in the shadow."""

    def __init__(self, settings: Settings, num_features: int, num_moment_features: int, device: torch.device) -> None:
        self._settings = settings
        num_features += NUM_SHOWN_FEATURES
        self.exposures = Exposures(settings.state.num_exposure_buckets, settings.state.exposure_half_life_s, device)
        with torch.random.fork_rng(devices=[]), torch.device("meta" if device.type == "meta" else "cpu"):
            torch.manual_seed(settings.worker.seed)
            model = ShownOrder(num_features, num_moment_features)
        self._model = model.to(device)
        self._of_items = Standardiser(num_features, device)
        self._of_moments = Standardiser(num_moment_features, device)
        self._leader = Leader(1 + NUM_SIMPLE_PARTS, device)
        self._optimiser = AdamW(self._model, weight_decay=settings.learning.weight_decay)
        self._buffer = ReplayBuffer(
            settings.learning.replay_events,
            num_candidates=1 + settings.decode.max_impressions,
            num_features=num_features,
            num_moment_features=num_moment_features,
            history_length=0,
            attends=False,
            device=device,
        )

    @torch.no_grad()
    def scores(self, moments: Moments, shown: ShownLists, known: Known) -> Tensor:
        """[B, K] the higher the better, -inf in empty places. Changes nothing."""
        seen = look_at_shown(self.exposures, moments, shown, *known)
        parts_BKP = self._parts(_exams(shown, seen, known), seen)
        placed_BK = self._leader.scores(parts_BKP, moments.history.lengths_B)
        # No floor can be had where nobody has seen an order: what was learnt counts as far as clicks bear it out.
        num_taken_B1 = self.exposures.num_taken(moments.time_B)[:, None]
        learnt_BK = (parts_BKP[:, :, 0] - seen.offset_BK) * num_taken_B1 / (num_taken_B1 + TRUSTED_TAKEN)
        return torch.where(torch.isfinite(seen.unplaced_BK), seen.unplaced_BK + learnt_BK, placed_BK)

    def learn(self, moments: Moments, shown: ShownLists, known: Known, batch: int) -> None:
        """Learn from the lists of a batch.

        Effects: 1. the parts are compared on what was taken; 2. scales of features take the lists in; 3. a step on
        them, and some on old ones, each left out where loss or gradient is not finite; 4. they join the old ones, and
        are counted.
        """
        seen = look_at_shown(self.exposures, moments, shown, *known)
        exams = _exams(shown, seen, known)
        with torch.no_grad():
            is_taken_BK = exams.is_target_BK[:, 1:]
            of_several_B = shown.is_real_BK.sum(1) > 1  # the order of one tells nothing
            weight_B, length_B = exams.weight_B * of_several_B, exams.candidates.length_B
            self._leader.observe(self._parts(exams, seen), is_taken_BK, weight_B, length_B)
            judged_BK = shown.is_real_BK & (exams.weight_B > 0)[:, None]
            self._of_items.observe(seen.features_BKF, judged_BK)
            self._of_moments.observe(exams.candidates.moment_BX[:, None, :], judged_BK.any(1, keepdim=True))
        self._step(exams)
        for number in range(NUM_OLD_STEPS):
            old = self._buffer.draw(exams.weight_B.shape[0], self._settings.worker.seed, NUM_OLD_STEPS * batch + number)
            if old is not None:
                self._step(old)
        self._buffer.add(exams)
        self.exposures.update(shown, moments.time_B, moments.newest_s)

    def _score(self, exams: Exams) -> Tensor:
        # What has never varied (an order within lists of one) has taught nothing: where it varies it must say nothing.
        lists = exams.candidates
        features_BKF = self._of_items(lists.features_BKF) * (self._of_items.variance_F > LEAST_VARIANCE)
        scores_BK: Tensor = self._model(lists.first_BK, features_BKF, self._of_moments(lists.moment_BX), lists.length_B)
        return scores_BK

    def _parts(self, exams: Exams, seen: ShownLook) -> Tensor:
        """[B, K, P] scores by what was learnt and by each simple part alone, without the place for nothing."""
        return torch.cat([self._score(exams)[:, 1:, None], seen.simple_BKP], dim=2)

    def _step(self, exams: Exams) -> None:
        loss = listwise_loss(self._score(exams), exams.is_target_BK, exams.weight_B)
        learning = self._settings.learning
        self._optimiser.descend(loss, rate=learning.order_rate, clip_norm=learning.clip_norm)

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {
            "exposures": self.exposures.state(),
            "leader": self._leader.state(),
            "optimiser": self._optimiser.state(),
            "item_scales": self._of_items.state(),
            "moment_scales": self._of_moments.state(),
            "buffer": self._buffer.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self.exposures.load_state(state["exposures"])
        self._leader.load_state(state["leader"])
        self._optimiser.load_state(state["optimiser"])
        self._of_items.load_state(state["item_scales"])
        self._of_moments.load_state(state["moment_scales"])
        self._buffer.load_state(state["buffer"])


def _exams(shown: ShownLists, seen: ShownLook, known: Known) -> Exams:
    """The lists, each with taking nothing before its places."""
    column_K = torch.arange(-1, shown.rows_BK.shape[1], device=shown.rows_BK.device)
    candidates = Candidates.without_past(
        torch.cat([seen.nothing_B[:, None], seen.offset_BK], dim=1),
        torch.cat([torch.zeros_like(seen.features_BKF[:, :1]), seen.features_BKF], dim=1),
        known[1].moment_BX,
        known[1].length_B,
    )
    return Exams(candidates, is_target_BK=column_K == shown.taken_B[:, None], weight_B=shown.weight_B)
