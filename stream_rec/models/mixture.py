"""The statistics as one distribution over items: a gate looks at the moment and says how much each is worth.

Fresh counting is what makes online learning win on fast streams; attention learns what is left over.

Shapes: B = moments, S = statistics (popularity by half-life, uniform, transitions, the user's own items by frequency
and by recency), H = half-lives, I = item rows, C = columns asked for (all rows, or a sample), M = successors,
N = history length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stream_rec.state.moments import Moments
from stream_rec.state.popularity import Popularity
from stream_rec.state.transitions import Transitions

HIDDEN = 32


@dataclass
class Evidence:
    """What the statistics know at each moment, exact to the event: the batch's earlier events are counted in."""

    scale_HB: Tensor  # what turns a stored count into a share at that moment; 0 where nothing was counted
    recent_HBB: Tensor  # share of event j in popularity h at moment b, for j before b
    successors_BM: Tensor  # item rows
    successor_shares_BM: Tensor  # share of each among what followed the last item
    next_BB: Tensor  # share of event j among what followed the last item of moment b, for j before b
    own_items_BN: Tensor  # the user's history
    frequent_BN: Tensor  # share of each entry among what the user had, all entries alike
    recent_BN: Tensor  # the same with the n-th newest weighing 1 / n
    uniform_scale_B: Tensor  # what makes 1 / items after the batch 1 / items at that moment
    features_BX: Tensor  # what the gate looks at
    usable_BS: Tensor  # statistics that have any mass
    item_B: Tensor  # item rows of the batch's events (all of them, not only a block's), int64

    def of(self, block: slice) -> Evidence:
        """The evidence of a block of moments."""
        return Evidence(
            self.scale_HB[:, block],
            self.recent_HBB[:, block],
            self.successors_BM[block],
            self.successor_shares_BM[block],
            self.next_BB[block],
            self.own_items_BN[block],
            self.frequent_BN[block],
            self.recent_BN[block],
            self.uniform_scale_B[block],
            self.features_BX[block],
            self.usable_BS[block],
            self.item_B,
        )


def gather_evidence(popularity: Popularity, transitions: Transitions, moments: Moments, *, repeats: bool) -> Evidence:
    """Read the statistics for a batch of moments. No gradient, no change.

    The user's own items are of use only where what he had may be recommended again (``repeats``).
    """
    time_B, last_item_B = moments.time_B, moments.history.items_BN[:, 0]
    weight_B = moments.weight_B * (moments.item_B > 0)

    # A late event is seen from the newest one before it. Shares do not depend on where they are seen from, but from
    # here no weight exceeds 1, whether it is stored or of this batch.
    counted_B = torch.where(weight_B > 0, time_B, -torch.inf)
    seen_from_B = torch.maximum(time_B, torch.cummax(counted_B, dim=0).values)
    recent_HBB = popularity.landmark.pairwise(time_B, seen_from_B) * weight_B
    discounts_HB = popularity.landmark.discounts(seen_from_B)
    totals_HB = popularity.totals_H[:, None] * discounts_HB + recent_HBB.sum(2)
    inverse_HB = _inverse(totals_HB)

    same_last_BB = (last_item_B[:, None] == last_item_B[None, :]) & (last_item_B > 0)[:, None]
    next_BB = transitions.landmark.pairwise(time_B, seen_from_B)[0] * same_last_BB * weight_B
    discount_B = transitions.landmark.discounts(seen_from_B)[0] * (last_item_B > 0)
    weights_BM = transitions.weights_IM[last_item_B] * discount_B[:, None]
    support_B = weights_BM.sum(1) + next_BB.sum(1)
    inverse_B = _inverse(support_B)

    own_items_BN = moments.history.items_BN
    is_own_BN = (own_items_BN > 0).float()
    by_recency_N = 1.0 / torch.arange(1, own_items_BN.shape[1] + 1, device=time_B.device)
    # Not by its length: a history may hold retired items only.
    has_own_B = (own_items_BN > 0).any(1) & repeats

    angle_B = moments.hour_B * (2 * torch.pi / 24)
    features_BX = torch.stack(
        [
            *(torch.log1p(totals_HB) / 8),
            torch.log1p(support_B) / 4,
            torch.log1p(moments.history.lengths_B.float()) / 4,
            torch.log1p(moments.gaps_BN[:, 0].float()) / 12,
            torch.sin(angle_B),
            torch.cos(angle_B),
        ],
        dim=1,
    )
    always_B = torch.ones_like(last_item_B, dtype=torch.bool)
    return Evidence(
        scale_HB=discounts_HB * inverse_HB,
        recent_HBB=recent_HBB * inverse_HB[:, :, None],
        successors_BM=transitions.successors_IM[last_item_B].long(),
        successor_shares_BM=weights_BM * inverse_B[:, None],
        next_BB=next_BB * inverse_B[:, None],
        own_items_BN=own_items_BN,
        frequent_BN=is_own_BN * _inverse(is_own_BN.sum(1))[:, None],
        recent_BN=is_own_BN * by_recency_N * _inverse((is_own_BN * by_recency_N).sum(1))[:, None],
        uniform_scale_B=moments.uniform_scale_B,
        features_BX=features_BX,
        usable_BS=torch.stack([*(inverse_HB > 0), always_B, inverse_B > 0, has_own_B, has_own_B], dim=1),
        item_B=moments.item_B,
    )


def _inverse(mass: Tensor) -> Tensor:
    """1 / mass, and 0 where there is as good as none: a share of nothing is nothing."""
    return torch.where(mass > 1e-20, 1.0 / mass.clamp_min(1e-20), 0.0)


class StatisticsMixture(nn.Module):
    """Gate weights [B, S] by a small network; the mixture by sums of what each statistic says."""

    def __init__(self, num_half_lives: int) -> None:
        super().__init__()
        self.num_half_lives = num_half_lives
        num_statistics = num_half_lives + 4
        self.hidden = nn.Linear(num_half_lives + 5, HIDDEN)
        self.output = nn.Linear(HIDDEN, num_statistics)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()
            # Uniform is a floor; transitions and the user's own are specific.
            self.output.bias[num_half_lives] = -3.0
            self.output.bias[num_half_lives + 1 :] = 1.0

    def gate(self, evidence: Evidence) -> Tensor:
        """[B, S] weights summing to 1; statistics without any mass get none."""
        logits_BS = self.output(torch.tanh(self.hidden(evidence.features_BX)))
        return torch.softmax(logits_BS.masked_fill(~evidence.usable_BS, float("-inf")), dim=1)

    def probabilities(
        self,
        gate_BS: Tensor,
        evidence: Evidence,
        counts_HC: Tensor,
        uniform_C: Tensor,
        column_of_I: Tensor | None,
    ) -> Tensor:
        """[B, C] mixture. ``column_of_I`` maps item rows to columns (C = not asked for); None where they are equal.

        ``uniform_C`` holds 1 / number of items for those that may be recommended, else 0.
        """
        popular_BH, uniform_B1, follows_B1, frequent_B1, recent_B1 = gate_BS.split_with_sizes(
            [self.num_half_lives, 1, 1, 1, 1], dim=1
        )
        mixing_BS = torch.cat([popular_BH * evidence.scale_HB.T, uniform_B1 * evidence.uniform_scale_B[:, None]], dim=1)
        mixed_BC = mixing_BS @ torch.cat([counts_HC, uniform_C[None, :]])
        recent_BB = torch.einsum("bh,hbj->bj", popular_BH, evidence.recent_HBB)
        recent_BB = recent_BB + follows_B1 * evidence.next_BB
        successors_BM = follows_B1 * evidence.successor_shares_BM
        own_BN = frequent_B1 * evidence.frequent_BN + recent_B1 * evidence.recent_BN
        where_BK = torch.cat(
            [evidence.item_B.expand_as(recent_BB), evidence.successors_BM, evidence.own_items_BN], dim=1
        )
        extra_BK = torch.cat([recent_BB, successors_BM, own_BN], dim=1)
        if column_of_I is None:
            return mixed_BC.scatter_add_(1, where_BK, extra_BK)
        num_columns = counts_HC.shape[1]
        padded_BC = torch.cat([mixed_BC, mixed_BC.new_zeros(mixed_BC.shape[0], 1)], dim=1)
        padded_BC = padded_BC.scatter_add(1, column_of_I[where_BK], extra_BK)
        return padded_BC[:, :num_columns]

    def reasons(
        self, gate_BS: Tensor, evidence: Evidence, counts_HI: Tensor, rows_BK: Tensor, attention_BK: Tensor
    ) -> Tensor:
        """[B, K] what speaks most for each listed item: 0 popularity, 1 transitions, 2 the user's own, 3 attention.

        Attention is named where its logit, over the mean of all items, lifts the item by more than a factor e and
        by more than the strongest statistic gives it over a listing by chance.
        """
        popular_BH, _, follows_B1, frequent_B1, recent_B1 = gate_BS.split_with_sizes(
            [self.num_half_lives, 1, 1, 1, 1], dim=1
        )
        popular_BK = torch.einsum("bh,hbk->bk", popular_BH * evidence.scale_HB.T, counts_HI[:, rows_BK])
        is_successor_BKM = evidence.successors_BM[:, None, :] == rows_BK[:, :, None]
        follows_BK = follows_B1 * (is_successor_BKM * evidence.successor_shares_BM[:, None, :]).sum(2)
        own_BN = frequent_B1 * evidence.frequent_BN + recent_B1 * evidence.recent_BN
        own_BK = ((evidence.own_items_BN[:, None, :] == rows_BK[:, :, None]) * own_BN[:, None, :]).sum(2)
        strongest = torch.stack([popular_BK, follows_BK, own_BK]).max(0)
        lift_BK = torch.log(strongest.values * counts_HI.shape[1] + 1e-12)
        by_attention_BK = (attention_BK > 1.0) & (attention_BK > lift_BK)
        return torch.where(by_attention_BK, 3, strongest.indices)
