"""Losses of a batch of moments, each weighted by its event.

Shapes: B = moments, C = columns (all items, or a sample).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mixture_loss(target_p_B: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy of a mixture of distributions: -log of what it gives the target. Weighted mean."""
    return weighted_mean(-torch.log(target_p_B.clamp_min(1e-12)), weight_B)


def softmax_loss(logits_BC: Tensor, target_B: Tensor, weight_B: Tensor) -> Tensor:
    """Softmax cross-entropy, -inf logits left out. Weighted mean."""
    losses_B = F.cross_entropy(logits_BC, target_B, reduction="none")
    # A target of -inf belongs to a moment of weight 0; inf * 0 would make the whole batch unsound.
    return weighted_mean(torch.where(weight_B > 0, losses_B, 0.0), weight_B)


def weighted_mean(losses_B: Tensor, weight_B: Tensor) -> Tensor:
    """Mean over events of weight 1; 0 where there are none."""
    return (losses_B * weight_B).sum() / weight_B.sum().clamp_min(1e-6)
