"""Candidates for tests of the second stage: all fields there, most of them empty."""

from __future__ import annotations

import torch
from torch import Tensor

from stream_rec.models.candidates import Candidates
from stream_rec.models.history_attention import NUM_PAST_FEATURES, PAIRS

CPU = torch.device("cpu")
NUM_PAIRS = sum(PAIRS.values())


def candidates_of(
    first_BK: Tensor, features_BKF: Tensor, moment_BX: Tensor, length_B: Tensor, *, num_past: int = 2
) -> Candidates:
    """Of histories without an interaction."""
    num_moments, num_candidates = first_BK.shape
    none_BN = torch.zeros(num_moments, num_past, dtype=torch.int64, device=CPU)
    return Candidates(
        first_BK=first_BK,
        features_BKF=features_BKF,
        moment_BX=moment_BX,
        length_B=length_B,
        pairs_BKP=torch.zeros(num_moments, num_candidates, NUM_PAIRS, device=CPU),
        past_BNY=torch.zeros(num_moments, num_past, NUM_PAST_FEATURES, device=CPU),
        types_BN=none_BN,
        values_BN=none_BN,
        place_BN=none_BN + num_candidates,
    )
