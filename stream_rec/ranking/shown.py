"""What is known of the items of a given list: all that is known of any candidate, and what only the list says.

Shapes: B = moments, K = places of the lists, F = features of an item, N = history length, S = statistics, P = parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_rec.models.candidates import Candidates
from stream_rec.ranking.ranker import Seen
from stream_rec.state.exposures import Exposures
from stream_rec.state.moments import Moments
from stream_rec.state.shown import ShownLists

NUM_SHOWN_FEATURES = 20
PULLS = (1.0, 30.0)  # pseudo-clicks that hold an item's clicks over expected clicks near 1: a bold and a shy guess
NUM_SIMPLE_PARTS = 5  # place, price, own past, statistics, clicks over expected clicks: each alone
TIE = 1e-4  # weight of the order shown where a part alone says nothing


@dataclass
class ShownLook:
    """What is seen of given lists. Empty places hold anything, their offset is -inf."""

    offset_BK: Tensor  # log of how often what stands there is taken, whatever it is
    features_BKF: Tensor  # as they are, not standardised
    simple_BKP: Tensor  # scores by simple parts, each alone
    nothing_B: Tensor  # log of how often nothing of a list is taken
    unplaced_BK: Tensor  # score of an item that has no place yet, before anything learnt; -inf if it has one


@torch.no_grad()
def look_at_shown(
    exposures: Exposures, moments: Moments, shown: ShownLists, seen: Seen, candidates: Candidates
) -> ShownLook:
    """``seen`` and ``candidates`` are what is known of the shown items as of any. Reads state, changes nothing."""
    rows_BK, is_real_BK = shown.rows_BK, shown.is_real_BK
    known_BK, prior_BK = (rows_BK > 0).float(), seen.prior_BK
    lag_BK = _lags(moments, rows_BK)
    log_price_BK = torch.log(shown.prices_BK.clamp_min(1e-3))
    offset_BK = torch.log(exposures.rates(shown.places_BK)).masked_fill(~is_real_BK, float("-inf"))
    shown_BK, taken_BK, expected_BK = exposures.of_items(shown.buckets_BK, moments.time_B, moments.shown)
    pulls = [torch.log((taken_BK + held) / (expected_BK + held)) for held in PULLS]
    of_list = [
        *_by_place(shown, lag_BK, log_price_BK, moments.history.items_BN.shape[1]),
        *_by_price(shown, log_price_BK),
        *pulls,
        torch.log1p(shown_BK),
        torch.log1p(taken_BK),
        known_BK,
    ]
    features_BKF = torch.cat([candidates.features_BKF, torch.stack(of_list, dim=2)], dim=2)
    tie_BK = TIE * offset_BK
    times_BK = (moments.history.items_BN[:, None, :] == rows_BK[:, :, None]).sum(2) * known_BK
    simple = [
        offset_BK,
        torch.where(shown.prices_BK > 0, -log_price_BK, -30.0) + tie_BK,
        times_BK + tie_BK,
        prior_BK + tie_BK,
        pulls[0] + tie_BK,
    ]
    nothing_B = torch.log(exposures.empty_share()).expand(len(moments))
    # Whoever showed the items had reasons, and clicks are few: an item that was shown often is put first until its own
    # clicks say otherwise (close to the policy that made the log; Swaminathan & Joachims, JMLR 2015).
    shy_BK = torch.log1p(shown_BK) + pulls[-1]
    unplaced_BK = shy_BK.masked_fill(~is_real_BK | (shown.places_BK > 0), float("-inf"))
    return ShownLook(offset_BK, features_BKF, torch.stack(simple, dim=2), nothing_B, unplaced_BK)


def _mean(values_BK: Tensor, is_real_BK: Tensor) -> Tensor:
    """[B, 1] over the places that hold an item."""
    total_B1 = (values_BK * is_real_BK).sum(1, keepdim=True)
    return total_B1 / is_real_BK.sum(1, keepdim=True).clamp_min(1)


def _lags(moments: Moments, rows_BK: Tensor) -> Tensor:
    """[B, K] how many interactions ago the user had each item, from 0; the history's length where it is not there."""
    items_BN = moments.history.items_BN
    length = items_BN.shape[1]
    order_N = torch.arange(length, device=rows_BK.device)
    same_BKN = (items_BN[:, None, :] == rows_BK[:, :, None]) & (rows_BK > 0)[:, :, None]
    return torch.where(same_BKN, order_N, length).amin(2)


def _by_place(shown: ShownLists, lag_BK: Tensor, log_price_BK: Tensor, length: int) -> list[Tensor]:
    """Where each item stands, and where beside the one of them that the user had last; nothing in a list of one.

    People go on reading where they were: what follows the last one is likelier than what comes before it.
    """
    place_BK = shown.places_BK.float()
    is_listed_BK = shown.is_real_BK & (shown.is_real_BK.sum(1, keepdim=True) > 1) & (shown.places_BK > 0)
    last = lag_BK.min(1, keepdim=True)
    away_BK = place_BK - place_BK.gather(1, last.indices)
    after_BK = is_listed_BK & (last.values < length)
    dearer_BK = log_price_BK - log_price_BK.gather(1, last.indices)
    both_priced_BK = (shown.prices_BK > 0) & (shown.prices_BK.gather(1, last.indices) > 0)
    return [
        torch.where(is_listed_BK, torch.log(place_BK.clamp_min(1.0)), 0.0),
        torch.where(is_listed_BK, 1.0 / place_BK.clamp_min(1.0), 0.0),
        (is_listed_BK & (shown.places_BK == 1)).float(),
        torch.where(is_listed_BK, place_BK / shown.is_real_BK.sum(1, keepdim=True).clamp_min(1), 0.0),
        torch.where(after_BK, torch.sign(away_BK) * torch.log1p(away_BK.abs()), 0.0),
        (after_BK & (away_BK == 1)).float(),
        (after_BK & (away_BK == 2)).float(),
        (after_BK & (away_BK == -1)).float(),
        (after_BK & (away_BK > 0)).float(),
        after_BK.float(),
        torch.where(after_BK & both_priced_BK, dearer_BK, 0.0),
    ]


def _by_price(shown: ShownLists, log_price_BK: Tensor) -> list[Tensor]:
    """What each item costs, beside the cheapest and beside the mean, and how many are cheaper."""
    priced_BK = shown.prices_BK > 0
    least_B1 = torch.where(priced_BK, log_price_BK, 30.0).amin(1, keepdim=True)
    cheaper_BK = ((log_price_BK[:, None, :] < log_price_BK[:, :, None]) & priced_BK[:, None, :]).sum(2)
    share_BK = cheaper_BK / priced_BK.sum(1, keepdim=True).clamp_min(1)
    mean_BK = _mean(log_price_BK, priced_BK)
    each = (log_price_BK, log_price_BK - least_B1, log_price_BK - mean_BK, share_BK)
    return [torch.where(priced_BK, value_BK, 0.0) for value_BK in each]
