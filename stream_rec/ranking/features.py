"""What the second stage reads of each candidate.

Shapes: B = moments, K = candidates, F = features, S = statistics, I = item rows, N = history length,
A = attributes per item, W = attribute rows in use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stream_rec.ranking.candidates import past_places
from stream_rec.ranking.distances import Distances
from stream_rec.state.memory import Memory
from stream_rec.state.moments import Moments

LEAST_SHARE = 1e-6
DAY_S = 86_400.0


def candidate_features(
    memory: Memory,
    moments: Moments,
    rows_BK: Tensor,
    place_BI: Tensor,
    shares_BKS: Tensor,
    prior_BK: Tensor,
    residual_BK: Tensor,
    distances: Distances | None,
    beside_BK: Tensor | None = None,
) -> Tensor:
    """[B, K, F] what is known of each candidate at its moment, not standardised yet. Empty places hold anything.

    ``place_BI`` says where each item row is among the candidates, K where it is none. Their order by ``prior_BK`` is
    that among themselves, or where ``beside_BK`` is given among other candidates that have this prior.
    """
    since_first_BK, since_last_BK = memory.statistics.ages.since(rows_BK, moments.clock_B)
    counts_I = memory.statistics.popularity.counts_HI[-1]
    if beside_BK is None:
        order_BK = torch.argsort(torch.argsort(-prior_BK, dim=1), dim=1)
    else:
        ascending_BK = torch.sort(beside_BK, dim=1).values
        order_BK = beside_BK.shape[1] - torch.searchsorted(ascending_BK, prior_BK.contiguous(), right=True)
    others = torch.stack(
        [
            prior_BK,
            residual_BK,
            1.0 / (1.0 + order_BK),
            torch.log1p(since_first_BK.float()),
            torch.log1p(since_last_BK.float()),
            torch.log1p(counts_I[rows_BK]),
            memory.statistics.kinds.log_lifts(moments, rows_BK, place_BI),
            *_own_past(moments, place_BI, rows_BK.shape[1]),
            *_alike(memory, moments, rows_BK),
            *_near(rows_BK, distances),
        ],
        dim=2,
    )
    features_BKF = torch.cat([torch.log(shares_BKS.clamp_min(LEAST_SHARE)), others], dim=2)
    # A row that is no number must not get into the running means, where it would stay.
    return torch.nan_to_num(features_BKF, nan=0.0, posinf=30.0, neginf=-30.0)


def _own_past(moments: Moments, place_BI: Tensor, num_candidates: int) -> list[Tensor]:
    """How often the user had each candidate, how long ago and how many interactions back; at what hour beside now."""
    place_BN = past_places(moments, place_BI, num_candidates)
    num_moments, length = place_BN.shape
    device = place_BN.device
    lag_N = torch.arange(length, device=device).expand(num_moments, -1).contiguous()
    wide = (num_moments, num_candidates + 1)
    count_BK = torch.zeros(wide, device=device).scatter_add_(1, place_BN, torch.ones(place_BN.shape, device=device))
    lag_BK = torch.full(wide, length, dtype=torch.int64, device=device).scatter_reduce_(1, place_BN, lag_N, "amin")
    count_BK, lag_BK = count_BK[:, :-1], lag_BK[:, :-1]
    gap_BK = moments.gaps_BN.gather(1, lag_BK.clamp(max=length - 1))
    had_BK = count_BK > 0
    angle_BK = (gap_BK % int(DAY_S)).float() * (2 * torch.pi / DAY_S)
    return [
        torch.log1p(count_BK),
        torch.where(had_BK, 1.0 / (1.0 + lag_BK), 0.0),
        torch.where(had_BK, 16.0 - torch.log1p(gap_BK.float()), 0.0),
        torch.where(had_BK, torch.cos(angle_BK), 0.0),
    ]


def _near(rows_BK: Tensor, distances: Distances | None) -> list[Tensor]:
    """How far each candidate is from the last item, from the nearest of the history, and how usual its places are."""
    if distances is None:
        return [torch.zeros(rows_BK.shape, device=rows_BK.device)] * 4
    away_BKN, district_BKN = distances.away_km_BKN, distances.district_BKN
    weight_N = torch.arange(1, away_BKN.shape[2] + 1, device=away_BKN.device).rsqrt()
    corner_BKN = (district_BKN * district_BKN * district_BKN).square()  # a sixth of the distance, without another exp
    usual = [torch.log((close_BKN @ weight_N).clamp_min(1e-6)) for close_BKN in (district_BKN, corner_BKN)]
    return [torch.log1p(away_BKN[:, :, 0]), torch.log1p(away_BKN.amin(2)), *usual]


def _alike(memory: Memory, moments: Moments, rows_BK: Tensor) -> list[Tensor]:
    """How much of each candidate's attributes the last item has, and the history, the newer the more."""
    catalogue, items_BN = memory.catalogue, moments.history.items_BN
    if catalogue.width == 0:
        return [torch.zeros(rows_BK.shape, device=rows_BK.device)] * 2
    attributes_IA = catalogue.features_IA[:, : catalogue.width]
    theirs_BKA = attributes_IA[rows_BK].long().flatten(1)
    num_theirs_BK = (theirs_BKA > 0).view(*rows_BK.shape, -1).sum(2).clamp_min(1)
    newest = torch.arange(items_BN.shape[1], device=rows_BK.device)
    found: list[Tensor] = []
    for weight_N in ((newest == 0).float(), (1.0 + newest).rsqrt()):
        num_past = 1 if weight_N[1:].numel() == 0 or found == [] else items_BN.shape[1]
        past_BNA = attributes_IA[items_BN[:, :num_past]].long()
        weight_BN = weight_N[:num_past] * (items_BN[:, :num_past] > 0)
        weight_BN = weight_BN / weight_BN.sum(1, keepdim=True).clamp_min(1e-6)
        profile_BW = torch.zeros(rows_BK.shape[0], catalogue.num_features, device=rows_BK.device)
        profile_BW.scatter_add_(1, past_BNA.flatten(1), weight_BN[:, :, None].expand(past_BNA.shape).flatten(1))
        profile_BW[:, 0] = 0.0
        found.append(profile_BW.gather(1, theirs_BKA).view(*rows_BK.shape, -1).sum(2) / num_theirs_BK)
    return found
