"""What the statistics know at each moment, as shares of what may be listed then, exact to the event.

Every statistic is one distribution over the items that may be in the list of that moment: what the user has consumed
and what nobody had touched yet has no share. Popularity is dense (a stored count times a factor of the moment, plus
the batch's earlier events), uniform is one number, the others name a bounded number of items.

Shapes: B = moments, I = item rows, H = half-lives, E = entries of all sparse statistics side by side, S = statistics
(popularity by half-life, uniform, the sparse ones), X = features of the moment, P = excluded pairs, K = candidates,
L = past items whose neighbours are read, M = neighbours of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from stream_rec.state.statistics import SPARSE

LEAST_LISTED = 1e-5  # a popularity of which less may be listed says nothing: a difference of floats would
NUM_MOMENT_FEATURES = 8  # besides the masses of the statistics


@dataclass
class Evidence:
    """Shares of each statistic at each moment."""

    scale_HB: Tensor  # what turns a stored count into a share; 0 where there is nothing to share
    recent_HBB: Tensor  # share of event j in popularity h at moment b, for j before b
    uniform_B: Tensor  # 1 / items that may be listed
    items_BE: Tensor  # item rows that the sparse statistics name, some of them several times
    shares_BE: Tensor
    weights_BE: Tensor  # before they were made shares
    lag_weights_L: Tensor  # with which the item-kNN reads
    lags: tuple[
        tuple[int, int], ...
    ]  # of each sparse statistic: past items read in turn, entries of each; (0, 0): none
    widths: tuple[int, ...]  # entries of each sparse statistic
    features_BX: Tensor  # what the gate looks at
    usable_BS: Tensor  # statistics that say anything
    item_B: Tensor  # item rows of the batch's events (all of them, not only a block's)
    out_BI: Tensor  # what may not be listed

    def of(self, block: slice) -> Evidence:
        """The evidence of a block of moments."""
        return Evidence(
            self.scale_HB[:, block],
            self.recent_HBB[:, block],
            self.uniform_B[block],
            self.items_BE[block],
            self.shares_BE[block],
            self.weights_BE[block],
            self.lag_weights_L,
            self.lags,
            self.widths,
            self.features_BX[block],
            self.usable_BS[block],
            self.item_B,
            self.out_BI[block],
        )

    def target_shares(self, counts_HI: Tensor, target_B: Tensor) -> Tensor:
        """[B, S] what each statistic gives one item a moment."""
        popular_HB = counts_HI[:, target_B] * self.scale_HB
        popular_HB = popular_HB + (self.recent_HBB * (self.item_B == target_B[:, None])).sum(2)
        named_BE = self.shares_BE * (self.items_BE == target_B[:, None])
        named = [part_BE.sum(1) for part_BE in named_BE.split_with_sizes(self.widths, dim=1)]
        return torch.stack([*popular_HB.unbind(), self.uniform_B, *named], dim=1)

    def cosines(self) -> tuple[Tensor, Tensor]:
        """Neighbours [B, L, M] of the newest past items in the item-kNN, and their cosines."""
        items_BLM, weights_BLM = self._by_lag("item kNN")
        return items_BLM, weights_BLM / self.lag_weights_L[: weights_BLM.shape[1], None]

    def rule_shares(self) -> tuple[Tensor, Tensor]:
        """Neighbours [B, L, M] of the newest past items in the rules, and their shares of what is listed of the row."""
        items_BLM, weights_BLM = self._by_lag("rules")
        return items_BLM, weights_BLM * _inverse(weights_BLM.sum(2, keepdim=True))

    def _by_lag(self, name: str) -> tuple[Tensor, Tensor]:
        index = SPARSE.index(name)
        start, lags = sum(self.widths[:index]), self.lags[index]
        part = slice(start, start + lags[0] * lags[1])
        shape = (self.items_BE.shape[0], *lags)
        return self.items_BE[:, part].reshape(shape), self.weights_BE[:, part].reshape(shape)

    def shares_at(self, counts_HI: Tensor, rows_BK: Tensor, place_BI: Tensor) -> Tensor:
        """[B, K, S] what each statistic gives K distinct items a moment, found by their ``places``; row 0 gets nothing
        of use.
        """
        num_moments, num_candidates = rows_BK.shape
        num_half_lives = counts_HI.shape[0]
        num_statistics = num_half_lives + 1 + len(self.widths)
        shares_BX = torch.zeros(num_moments, (num_candidates + 1) * num_statistics, device=rows_BK.device)
        statistic_E = torch.repeat_interleave(
            torch.arange(len(self.widths), device=rows_BK.device) + num_half_lives + 1,
            torch.tensor(self.widths, device=rows_BK.device),
            output_size=self.items_BE.shape[1],
        )
        where_BE = place_BI.gather(1, self.items_BE).long() * num_statistics + statistic_E
        shares_BX.scatter_add_(1, where_BE, self.shares_BE)
        shares_BKS = shares_BX.view(num_moments, num_candidates + 1, num_statistics)
        recent_place_BB = place_BI.gather(1, self.item_B.expand(num_moments, -1)).long()
        recent_BBH = self.recent_HBB.permute(1, 2, 0)
        where_BBH = recent_place_BB[:, :, None].expand_as(recent_BBH)
        popular_BKH = shares_BKS[:, :, :num_half_lives].scatter_add(1, where_BBH, recent_BBH)[:, :num_candidates]
        popular_BKH = popular_BKH + counts_HI.T[rows_BK] * self.scale_HB.T[:, None, :]
        uniform_BK1 = self.uniform_B[:, None, None].expand(-1, num_candidates, 1)
        return torch.cat([popular_BKH, uniform_BK1, shares_BKS[:, :num_candidates, num_half_lives + 1 :]], dim=2)


def gather_evidence(memory: Memory, moments: Moments) -> Evidence:
    """Read the statistics for a batch of moments. No gradient, no change."""
    statistics, time_B = memory.statistics, moments.time_B
    # A late event is seen from the newest one before it. Shares do not depend on where they are seen from, but from
    # here no weight exceeds 1, whether it is stored or of this batch.
    counted_B = torch.where(moments.weight_B > 0, time_B, -torch.inf)
    seen_from_B = torch.maximum(time_B, torch.cummax(counted_B, dim=0).values)
    out_BI = (~memory.recommendable())[None, :].repeat(len(moments), 1)
    if moments.excluded is not None:
        out_BI[moments.excluded] = True

    scale_HB, recent_HBB, mass_HB = _popular(memory, moments, seen_from_B, out_BI)
    readings = statistics.read(moments, memory.histories, seen_from_B, repeats=memory.allows_repeats)
    items_BE = torch.cat([reading.items_BE for reading in readings], dim=1)
    widths = tuple(reading.items_BE.shape[1] for reading in readings)
    # By row number the mask is read at random: a gather of bytes costs a third of one of item rows by comparison.
    weights_BE = torch.cat([reading.weights_BE for reading in readings], dim=1) * ~out_BI.gather(1, items_BE)
    parts = weights_BE.split_with_sizes(widths, dim=1)
    masses = [part_BE.sum(1) for part_BE in parts]
    shares_BE = torch.cat([part * _inverse(mass)[:, None] for part, mass in zip(parts, masses, strict=True)], dim=1)

    history = moments.history
    angle_B = moments.hour_B * (2 * torch.pi / 24)
    features_BX = torch.stack(
        [
            *(torch.log1p(mass_HB) / 8),
            *(torch.log1p(mass_B) / 4 for mass_B in masses),
            torch.log1p(history.lengths_B.float()) / 4,
            torch.log1p(moments.session_lengths_B.float()) / 3,
            torch.log1p(moments.gaps_BN[:, 0].float()) / 12,
            torch.sin(angle_B),
            torch.cos(angle_B),
            (moments.weekday_B >= 5).float(),
            (history.lengths_B == 0).float(),
            (moments.session_lengths_B == 0).float(),
        ],
        dim=1,
    )
    always_B = torch.ones(len(moments), dtype=torch.bool, device=time_B.device)
    return Evidence(
        scale_HB=scale_HB,
        recent_HBB=recent_HBB,
        uniform_B=1.0 / (~out_BI).sum(1).clamp_min(1),
        items_BE=items_BE,
        shares_BE=shares_BE,
        weights_BE=weights_BE,
        lag_weights_L=statistics.knn_weights_L,
        lags=tuple((reading.num_lags, reading.num_per_lag) for reading in readings),
        widths=widths,
        features_BX=features_BX,
        usable_BS=torch.stack([*(mass_HB > 1e-20), always_B, *(mass > 1e-20 for mass in masses)], dim=1),
        item_B=moments.item_B,
        out_BI=out_BI,
    )


def _popular(memory: Memory, moments: Moments, seen_from_B: Tensor, out_BI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What turns stored counts into shares [H, B], shares of the batch's own events [H, B, B], and masses [H, B]."""
    popularity, time_B = memory.statistics.popularity, moments.time_B
    counts_HI = popularity.counts_HI[:, : memory.num_item_rows]
    weight_B = moments.weight_B * (moments.item_B > 0)
    recent_HBB = popularity.landmark.pairwise(time_B, seen_from_B) * weight_B
    recent_HBB = recent_HBB * ~out_BI.gather(1, moments.item_B.expand(len(moments), -1))
    discounts_HB = popularity.landmark.discounts(seen_from_B)
    barred_I = ~memory.recommendable()
    out_HB = (counts_HI * barred_I).sum(1)[:, None].repeat(1, len(moments))
    if moments.excluded is not None:
        moment_P, row_P = moments.excluded
        out_HB.index_add_(1, moment_P, counts_HI[:, row_P] * ~barred_I[row_P])
    totals_HB = popularity.totals_H[:, None] - out_HB
    totals_HB = torch.where(totals_HB > LEAST_LISTED * popularity.totals_H[:, None], totals_HB, 0.0)
    mass_HB = totals_HB * discounts_HB + recent_HBB.sum(2)
    inverse_HB = _inverse(mass_HB)
    return torch.where(totals_HB > 0, discounts_HB * inverse_HB, 0.0), recent_HBB * inverse_HB[:, :, None], mass_HB


def _inverse(mass: Tensor) -> Tensor:
    """1 / mass, and 0 where there is as good as none: a share of nothing is nothing."""
    return torch.where(mass > 1e-20, 1.0 / mass.clamp_min(1e-20), 0.0)


def num_gate_features(num_half_lives: int) -> int:
    """Width X of ``features_BX``."""
    return num_half_lives + len(SPARSE) + NUM_MOMENT_FEATURES
