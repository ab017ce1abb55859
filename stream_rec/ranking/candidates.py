"""What the second stage gets to see: the best of each source, each with a quota, the first places of all first.

Shapes: B = moments, I = item rows, E = entries of a statistic, K = candidates, Q = places of all quotas together,
T = top of a popularity, H = half-lives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stream_rec.models.evidence import Evidence
from stream_rec.state.moments import Moments

FIRST_STAGE, STATISTICS, ATTENTION = 60, 30, 20  # quotas: scores over all items
SPARSE_QUOTA = 25
POPULAR_QUOTA = 20
POPULAR_DEPTH = 200  # how far down a popularity is looked for items that may be listed


def gather_candidates(
    evidence: Evidence, scores: dict[int, Tensor], counts_HI: Tensor, barred_I: Tensor, num_candidates: int
) -> Tensor:
    """[B, K] distinct item rows that may be listed, 0 where there are fewer.

    ``scores`` maps a quota to scores [B, I] (-inf out of the list); none of them is changed. The union is cut off by
    place relative to the quota, so that no source's first places fall to another's last.
    """
    num_moments, num_items = evidence.out_BI.shape
    device = evidence.out_BI.device
    unplaced = torch.iinfo(torch.int32).max
    place_BI = torch.full((num_moments, num_items), unplaced, dtype=torch.int32, device=device)
    sources = []
    for quota, score_BI in scores.items():
        best = torch.topk(score_BI, min(quota, num_items), dim=1)
        sources.append(torch.where(torch.isfinite(best.values), best.indices, 0))
    parts = [part_BE.split_with_sizes(evidence.widths, dim=1) for part_BE in (evidence.items_BE, evidence.shares_BE)]
    sources += [
        _top_entries(items_BE, shares_BE, place_BI, unplaced) for items_BE, shares_BE in zip(*parts, strict=True)
    ]
    sources += [_popular(counts_I, barred_I, evidence.out_BI) for counts_I in counts_HI]

    rows_BQ = torch.cat(sources, dim=1)
    relative = [(torch.arange(s.shape[1], device=device) + 1) / s.shape[1] for s in sources]
    rows_BQ = rows_BQ[:, torch.argsort(torch.cat(relative), stable=True)]
    order_BQ = torch.arange(rows_BQ.shape[1], dtype=torch.int32, device=device).expand_as(rows_BQ)
    place_BI.scatter_reduce_(1, rows_BQ, order_BQ.contiguous(), "amin")
    is_first_BQ = (place_BI.gather(1, rows_BQ) == order_BQ) & (rows_BQ > 0)
    # The first K of those that are kept, in order: what is not kept goes behind them.
    behind_BQ = torch.where(is_first_BQ, order_BQ, order_BQ + rows_BQ.shape[1])
    kept = torch.topk(behind_BQ, min(num_candidates, rows_BQ.shape[1]), dim=1, largest=False, sorted=True)
    return torch.where(kept.values < rows_BQ.shape[1], rows_BQ.gather(1, kept.indices), 0)


def places(rows_BK: Tensor, num_rows: int) -> Tensor:
    """[B, I] where each item row is among the candidates, K where it is none; int32 for its width."""
    num_moments, num_candidates = rows_BK.shape
    place_BI = torch.full((num_moments, num_rows), num_candidates, dtype=torch.int32, device=rows_BK.device)
    order_K = torch.arange(num_candidates, dtype=torch.int32, device=rows_BK.device)
    return place_BI.scatter_(1, rows_BK, order_K.expand_as(rows_BK))


def past_places(moments: Moments, place_BI: Tensor, num_candidates: int) -> Tensor:
    """[B, N] which candidate each past interaction was with, newest first, by their ``places``; K where none."""
    items_BN = moments.history.items_BN
    return torch.where(items_BN > 0, place_BI.gather(1, items_BN).long(), num_candidates)


def _top_entries(items_BE: Tensor, shares_BE: Tensor, place_BI: Tensor, unplaced: int) -> Tensor:
    """[B, n] items with the largest sums of shares. ``place_BI`` is scratch: it is left as it was."""
    order_BE = torch.arange(items_BE.shape[1], dtype=torch.int32, device=items_BE.device).expand_as(items_BE)
    place_BI.scatter_reduce_(1, items_BE, order_BE.contiguous(), "amin")
    first_BE = place_BI.gather(1, items_BE).long()
    place_BI.scatter_(1, items_BE, unplaced)
    summed_BE = torch.zeros_like(shares_BE).scatter_add_(1, first_BE, shares_BE)
    best = torch.topk(summed_BE, min(SPARSE_QUOTA, summed_BE.shape[1]), dim=1)
    return torch.where(best.values > 0, items_BE.gather(1, best.indices), 0)


def _popular(counts_I: Tensor, barred_I: Tensor, out_BI: Tensor) -> Tensor:
    """[B, n] the most popular items that may be listed, as far as ``POPULAR_DEPTH`` shows them."""
    top_T = torch.topk(counts_I.masked_fill(barred_I, -1.0), min(POPULAR_DEPTH, counts_I.shape[0])).indices
    is_out_BT = out_BI[:, top_T]
    order_T = torch.arange(top_T.shape[0], device=top_T.device)
    behind_BT = torch.where(is_out_BT, order_T + top_T.shape[0], order_T)
    kept = torch.topk(behind_BT, min(POPULAR_QUOTA, top_T.shape[0]), dim=1, largest=False, sorted=True)
    return torch.where(kept.values < top_T.shape[0], top_T[kept.indices % top_T.shape[0]], 0)
