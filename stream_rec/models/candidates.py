"""What the second stage reads of the candidates of a batch of moments.

Shapes: B = moments, K = candidates, N = history length (newest first), F = features of a candidate, P = pairs of a
candidate with past interactions, Y = features of a past interaction, X = features of the moment, T = kept candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Candidates:
    """Features are as they are, not standardised: scales move on."""

    first_BK: Tensor  # first stage's score; -inf in empty places
    features_BKF: Tensor
    moment_BX: Tensor
    length_B: Tensor  # of the history, int64
    pairs_BKP: Tensor  # statistics of a candidate and a past interaction, as ``history_attention`` names them
    past_BNY: Tensor  # what each past interaction was like
    types_BN: Tensor  # its event type's row, int64; 0 in an empty slot
    values_BN: Tensor  # bucket of its value, int64
    place_BN: Tensor  # which candidate it was with, int64; K for none of these

    @classmethod
    def without_past(cls, first_BK: Tensor, features_BKF: Tensor, moment_BX: Tensor, length_B: Tensor) -> Candidates:
        """For those who do not ask the history: none of it is held."""
        none_B00 = features_BKF.new_empty(first_BK.shape[0], 0, 0)
        none_B0 = length_B.new_empty(first_BK.shape[0], 0)
        pairs_BK0 = features_BKF.new_empty(*first_BK.shape, 0)
        return cls(first_BK, features_BKF, moment_BX, length_B, pairs_BK0, none_B00, none_B0, none_B0, none_B0)

    def in_use(self) -> Tensor:
        """[B, N] slots of the history that hold an interaction."""
        return self.types_BN > 0

    def only(self, kept_BT: Tensor) -> Candidates:
        """Some of the candidates, in that order."""
        num_moments, num_kept = kept_BT.shape
        num_candidates = self.first_BK.shape[1]
        order_BT = torch.arange(num_kept, device=kept_BT.device).expand_as(kept_BT)
        # Candidates left out, and the place of none, are none of those that are kept.
        place_BK = kept_BT.new_full((num_moments, num_candidates + 1), num_kept).scatter_(1, kept_BT, order_BT)
        return Candidates(
            first_BK=self.first_BK.gather(1, kept_BT),
            features_BKF=_rows(self.features_BKF, kept_BT),
            moment_BX=self.moment_BX,
            length_B=self.length_B,
            pairs_BKP=_rows(self.pairs_BKP, kept_BT),
            past_BNY=self.past_BNY,
            types_BN=self.types_BN,
            values_BN=self.values_BN,
            place_BN=place_BK.gather(1, self.place_BN),
        )


def _rows(values_BKF: Tensor, kept_BT: Tensor) -> Tensor:
    return values_BKF.gather(1, kept_BT[:, :, None].expand(-1, -1, values_BKF.shape[2]))
