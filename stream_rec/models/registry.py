"""Architectures by name."""

from __future__ import annotations

import torch

from stream_rec.config import Settings
from stream_rec.models.attention import AttentionEncoder
from stream_rec.models.base import Encoder
from stream_rec.models.bert import MaskedEncoder
from stream_rec.models.cnn import ConvolutionEncoder
from stream_rec.models.din import InterestEncoder
from stream_rec.models.fm import FactorisationMachine
from stream_rec.models.gru import GruEncoder
from stream_rec.models.lstm import LstmEncoder
from stream_rec.models.mf import FactorEncoder
from stream_rec.models.mlp import TwoTowerEncoder
from stream_rec.models.ncf import NeuralFactorEncoder
from stream_rec.models.none import NoEncoder
from stream_rec.models.transformer import CausalEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "attention": AttentionEncoder,
    "transformer": CausalEncoder,
    "bert": MaskedEncoder,
    "din": InterestEncoder,
    "gru": GruEncoder,
    "lstm": LstmEncoder,
    "cnn": ConvolutionEncoder,
    "mlp": TwoTowerEncoder,
    "fm": FactorisationMachine,
    "ncf": NeuralFactorEncoder,
    "mf": FactorEncoder,
    "none": NoEncoder,
}


def make_encoder(settings: Settings, device: torch.device) -> Encoder:
    """The encoder that ``model.encoder`` names, on ``device``, with weights that follow from ``worker.seed``."""
    model, state = settings.model, settings.state
    # The weights are drawn on the CPU, so that every device starts from the same ones; meta keeps shapes only.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if device.type == "meta" else "cpu"):
        torch.manual_seed(settings.worker.seed)
        encoder = ENCODERS[model.encoder](
            dimension=model.dimension,
            history_length=read_length(settings),
            num_layers=model.num_layers,
            num_heads=model.num_heads,
            num_context_buckets=state.num_context_buckets,
        )
    return encoder.to(device)


def read_length(settings: Settings) -> int:
    """Interactions that an encoder reads: no more than are kept."""
    return min(settings.model.history_length, settings.state.history_length)
