"""What is known of each candidate together with each past interaction of the user, and what these were like.

Shapes: B = moments, K = candidates, N = history length (newest first), L = of these the ones that are read,
M = neighbours, P = pairs of a candidate, I = item rows, D = dimension, Y = features of a past interaction.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stream_rec.models.evidence import Evidence
from stream_rec.models.history_attention import PAIRS
from stream_rec.ranking.distances import Distances
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments
from stream_rec.state.statistics import HOUR_CONCENTRATION

DAY_S = 86_400
WEEK_S = 7 * DAY_S


def pair_statistics(
    moments: Moments,
    evidence: Evidence,
    rows_BK: Tensor,
    place_BI: Tensor,
    vectors_ID: Tensor,
    distances: Distances | None,
) -> Tensor:
    """[B, K, P] as ``PAIRS`` has them. ``place_BI`` says where each item row is among the candidates."""
    num_candidates = rows_BK.shape[1]
    past_BL = moments.history.items_BN[:, : PAIRS["vectors"]]
    is_past_B1L = (past_BL > 0)[:, None, :]
    unit_ID = F.normalize(vectors_ID, dim=1)
    vectors_BKL = unit_ID[rows_BK] @ unit_ID[past_BL].transpose(1, 2) * is_past_B1L
    pairs = [
        _by_lag(*evidence.cosines(), place_BI, num_candidates).sqrt(),
        _by_lag(*evidence.rule_shares(), place_BI, num_candidates).sqrt(),
        vectors_BKL,
        _near(rows_BK, distances),
    ]
    # A history shorter than what is read leaves the oldest lags empty.
    return torch.cat([F.pad(p, (0, n - p.shape[2])) for p, n in zip(pairs, PAIRS.values(), strict=True)], dim=2)


def past_features(memory: Memory, moments: Moments) -> Tensor:
    """[B, N, Y]; anything in empty slots."""
    items_BN, gaps_BN = moments.history.items_BN, moments.gaps_BN
    counts_I = memory.statistics.popularity.counts_HI[-1]
    newest_first_N = torch.arange(items_BN.shape[1], device=items_BN.device)
    near_in_hour_BN = torch.cos((gaps_BN % DAY_S).float() * (2 * torch.pi / DAY_S))
    return torch.stack(
        [
            torch.log1p(gaps_BN.float()) / 12,
            (newest_first_N < moments.session_lengths_B[:, None]).float(),
            torch.log1p(counts_I[items_BN]) / 6,
            near_in_hour_BN,
            torch.exp(HOUR_CONCENTRATION * (near_in_hour_BN - 1.0)),
            torch.cos((gaps_BN % WEEK_S).float() * (2 * torch.pi / WEEK_S)),
        ],
        dim=2,
    )


def _by_lag(items_BLM: Tensor, weights_BLM: Tensor, place_BI: Tensor, num_candidates: int) -> Tensor:
    """[B, K, L] weights of the candidates among the neighbours of each past item."""
    num_moments, num_lags, num_neighbours = items_BLM.shape
    place_BE = place_BI.gather(1, items_BLM.flatten(1)).long()
    lag_E = torch.arange(num_lags, device=place_BE.device).repeat_interleave(num_neighbours)
    told_BX = weights_BLM.new_zeros(num_moments, (num_candidates + 1) * num_lags)
    told_BX.scatter_add_(1, place_BE * num_lags + lag_E, weights_BLM.flatten(1))
    return told_BX.view(num_moments, num_candidates + 1, num_lags)[:, :num_candidates]


def _near(rows_BK: Tensor, distances: Distances | None) -> Tensor:
    """[B, K, L] nearness of places."""
    if distances is None:
        return torch.zeros(*rows_BK.shape, PAIRS["near"], device=rows_BK.device)
    return distances.district_BKN[:, :, : PAIRS["near"]]
