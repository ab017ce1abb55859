"""Architectures by name."""

from __future__ import annotations

import torch

from stream_rec.config import Settings
from stream_rec.models.attention import AttentionEncoder
from stream_rec.models.base import Encoder
from stream_rec.models.none import NoEncoder

ENCODERS: dict[str, type[Encoder]] = {"attention": AttentionEncoder, "none": NoEncoder}


def make_encoder(settings: Settings, device: torch.device) -> Encoder:
    """The encoder that ``model.encoder`` names, on ``device``, with weights that follow from ``worker.seed``."""
    model, state = settings.model, settings.state
    # The weights are drawn on the CPU, so that every device starts from the same ones; meta keeps shapes only.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if device.type == "meta" else "cpu"):
        torch.manual_seed(settings.worker.seed)
        encoder = ENCODERS[model.encoder](
            dimension=model.dimension,
            history_length=state.history_length,
            num_layers=model.num_layers,
            num_heads=model.num_heads,
            num_context_buckets=state.num_context_buckets,
        )
    return encoder.to(device)
