"""The statistics as one distribution over items: a gate looks at the moment and says how much each is worth.

Fresh counting is what makes online learning win on fast streams; attention learns what is left over.

Shapes: B = moments, S = statistics (popularity by half-life, uniform, the sparse ones), H = half-lives, I = item rows,
C = columns asked for (all rows, or a sample), E = entries of the sparse statistics, K = candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stream_rec.models.evidence import Evidence, num_gate_features
from stream_rec.state.statistics import SPARSE

HIDDEN = 32
FLOOR = 1e-12  # least probability of an item: keeps the logarithm finite


class StatisticsMixture(nn.Module):
    """Gate weights [B, S] by a small network; the mixture by sums of what each statistic says."""

    def __init__(self, num_half_lives: int) -> None:
        super().__init__()
        self.num_half_lives = num_half_lives
        self.num_statistics = num_half_lives + 1 + len(SPARSE)
        self.hidden = nn.Linear(num_gate_features(num_half_lives), HIDDEN)
        self.output = nn.Linear(HIDDEN, self.num_statistics)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()
            # Uniform is a floor; the sparse ones are specific.
            self.output.bias[num_half_lives] = -3.0
            self.output.bias[num_half_lives + 1 :] = 1.0

    def gate(self, evidence: Evidence) -> Tensor:
        """[B, S] weights summing to 1; statistics without any mass get none."""
        logits_BS = self.output(torch.tanh(self.hidden(evidence.features_BX)))
        return torch.softmax(logits_BS.masked_fill(~evidence.usable_BS, float("-inf")), dim=1)

    def probabilities(
        self, gate_BS: Tensor, evidence: Evidence, counts_HC: Tensor, column_of_I: Tensor | None = None
    ) -> Tensor:
        """[B, C] mixture, without gradient. ``column_of_I`` maps item rows to columns (C = not asked for).

        What may not be listed has been left out of all but popularity's stored counts and uniform: its columns hold
        numbers without meaning.
        """
        gate_BS = gate_BS.detach()
        num_half_lives, num_columns = counts_HC.shape
        popular_BH, uniform_B1, sparse_BS = gate_BS.split_with_sizes([num_half_lives, 1, len(evidence.widths)], dim=1)
        floor_B1 = uniform_B1 * evidence.uniform_B[:, None]
        mixed_BC = torch.addmm(floor_B1, popular_BH * evidence.scale_HB.T, counts_HC)
        recent_BB = torch.einsum("bh,hbj->bj", popular_BH, evidence.recent_HBB)
        parts = evidence.shares_BE.split_with_sizes(evidence.widths, dim=1)
        weights = [gate_B[:, None] * part_BE for gate_B, part_BE in zip(sparse_BS.unbind(1), parts, strict=True)]
        where_BE = torch.cat([evidence.item_B.expand_as(recent_BB), evidence.items_BE], dim=1)
        extra_BE = torch.cat([recent_BB, *weights], dim=1)
        if column_of_I is None:
            return mixed_BC.scatter_add_(1, where_BE, extra_BE)
        padded_BC = torch.cat([mixed_BC, mixed_BC.new_zeros(mixed_BC.shape[0], 1)], dim=1)
        return padded_BC.scatter_add_(1, column_of_I[where_BE], extra_BE)[:, :num_columns]
