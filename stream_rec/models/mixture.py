"""The statistics as one distribution over items: a gate looks at the moment and says how much each is worth.

Fresh counting is what makes online learning win on fast streams; attention learns what is left over.

Shapes: B = moments, S = statistics (popularity by half-life, uniform, transitions), H = half-lives, I = item rows,
C = columns asked for (all rows, or a sample), M = successors.
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
            self.features_BX[block],
            self.usable_BS[block],
            self.item_B,
        )


def gather_evidence(popularity: Popularity, transitions: Transitions, moments: Moments) -> Evidence:
    """Read the statistics for a batch of moments. No gradient, no change."""
    time_B, last_item_B = moments.time_B, moments.history.items_BN[:, 0]
    weight_B = moments.weight_B * (moments.item_B > 0)

    recent_HBB = popularity.landmark.pairwise(time_B) * weight_B
    discounts_HB = popularity.landmark.discounts(time_B)
    totals_HB = popularity.totals_H[:, None] * discounts_HB + recent_HBB.sum(2)
    inverse_HB = _inverse(totals_HB)

    same_last_BB = (last_item_B[:, None] == last_item_B[None, :]) & (last_item_B > 0)[:, None]
    next_BB = transitions.landmark.pairwise(time_B)[0] * same_last_BB * weight_B
    discount_B = transitions.landmark.discounts(time_B)[0] * (last_item_B > 0)
    weights_BM = transitions.weights_IM[last_item_B] * discount_B[:, None]
    support_B = weights_BM.sum(1) + next_BB.sum(1)
    inverse_B = _inverse(support_B)

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
        features_BX=features_BX,
        usable_BS=torch.stack([*(inverse_HB > 0), always_B, inverse_B > 0], dim=1),
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
        num_statistics = num_half_lives + 2
        self.hidden = nn.Linear(num_half_lives + 5, HIDDEN)
        self.output = nn.Linear(HIDDEN, num_statistics)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()
            self.output.bias[-2], self.output.bias[-1] = -3.0, 1.0  # uniform is a floor, transitions are specific

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
        num_half_lives = self.num_half_lives
        scaled_BH = gate_BS[:, :num_half_lives] * evidence.scale_HB.T
        mixing_BS = torch.cat([scaled_BH, gate_BS[:, num_half_lives : num_half_lives + 1]], dim=1)
        mixed_BC = mixing_BS @ torch.cat([counts_HC, uniform_C[None, :]])
        recent_BB = torch.einsum("bh,hbj->bj", gate_BS[:, :num_half_lives], evidence.recent_HBB)
        recent_BB = recent_BB + gate_BS[:, -1:] * evidence.next_BB
        successors_BM = gate_BS[:, -1:] * evidence.successor_shares_BM
        where_BK = torch.cat([evidence.item_B.expand_as(recent_BB), evidence.successors_BM], dim=1)
        extra_BK = torch.cat([recent_BB, successors_BM], dim=1)
        if column_of_I is None:
            return mixed_BC.scatter_add_(1, where_BK, extra_BK)
        num_columns = counts_HC.shape[1]
        padded_BC = torch.cat([mixed_BC, mixed_BC.new_zeros(mixed_BC.shape[0], 1)], dim=1)
        padded_BC = padded_BC.scatter_add(1, column_of_I[where_BK], extra_BK)
        return padded_BC[:, :num_columns]

    def reasons(
        self, gate_BS: Tensor, evidence: Evidence, counts_HI: Tensor, rows_BK: Tensor, attention_BK: Tensor
    ) -> Tensor:
        """[B, K] what speaks most for each listed item: 0 popularity, 1 transitions, 2 attention.

        Attention is named where its logit, over the mean of all items, lifts the item by more than a factor e
        and at least as much as the stronger statistic lifts it over the other one.
        """
        scaled_BH = gate_BS[:, : self.num_half_lives] * evidence.scale_HB.T
        popular_BK = torch.einsum("bh,hbk->bk", scaled_BH, counts_HI[:, rows_BK])
        is_successor_BKM = evidence.successors_BM[:, None, :] == rows_BK[:, :, None]
        follows_BK = gate_BS[:, -1:] * (is_successor_BKM * evidence.successor_shares_BM[:, None, :]).sum(2)
        lift_BK = (torch.log(follows_BK + 1e-12) - torch.log(popular_BK + 1e-12)).abs()
        by_statistics_BK = (follows_BK > popular_BK).long()
        by_attention_BK = (attention_BK > 1.0) & ((attention_BK > lift_BK) | (popular_BK + follows_BK <= 0))
        return torch.where(by_attention_BK, 2, by_statistics_BK)
