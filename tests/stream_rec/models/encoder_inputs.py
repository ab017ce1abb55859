"""What tests of encoders share: settings, made encoders, random inputs, and what each architecture is known to read."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from stream_rec.config import Settings
from stream_rec.models.base import Encoder, Inputs
from stream_rec.models.registry import ENCODERS, make_encoder
from stream_rec.state.context import NUM_EVENT_TYPES, NUM_VALUE_BUCKETS
from tests.stream_rec.tiny_worlds import small_settings

CPU = torch.device("cpu")
LENGTH, DIMENSION, NUM_ROWS = 8, 16, 12

# "none" reads nothing and learns nothing: it has tests of its own.
LEARNING = sorted(ENCODERS.keys() - {"none"})
# They read two items back; the others know a history as a set, or its newest item at most.
ORDERED = {"attention", "transformer", "bert", "din", "gru", "lstm", "cnn"}

EVERYTHING = {field.name for field in dataclasses.fields(Inputs)}
WITHOUT_DETAILS = EVERYTHING - {"types_BN", "situations_BN", "values_BN"}
FACTORS_ONLY = {"vectors_RD", "items_BN", "users_BD"}
READS = dict.fromkeys(LEARNING, EVERYTHING) | {
    "fm": WITHOUT_DETAILS,
    "mlp": WITHOUT_DETAILS,
    "ncf": FACTORS_ONLY,
    "mf": FACTORS_ONLY,
}

HISTORY = ("items_BN", "gaps_BN", "types_BN", "situations_BN", "values_BN")


def settings_of(encoder: str, **sections: dict[str, Any]) -> Settings:
    """Small settings with that encoder; ``sections`` are laid over them."""
    model = {"encoder": encoder, "dimension": DIMENSION, **sections.pop("model", {})}
    return small_settings(model=model, **sections)


def made(encoder: str) -> Encoder:
    """The encoder as it starts, on the CPU."""
    return make_encoder(settings_of(encoder), CPU)


def some_inputs(lengths: list[int], seed: int = 0) -> Inputs:
    """Random inputs; each history has as many entries as ``lengths`` says, newest first."""
    generator = torch.Generator().manual_seed(seed)
    num_moments = len(lengths)
    lengths_B = torch.tensor(lengths)
    in_use_BN = torch.arange(LENGTH) < lengths_B[:, None]

    def some(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(1, high, shape, generator=generator)

    return Inputs(
        vectors_RD=torch.randn(NUM_ROWS, DIMENSION, generator=generator),
        items_BN=some(NUM_ROWS, num_moments, LENGTH) * in_use_BN,
        gaps_BN=some(100_000, num_moments, LENGTH).sort(1).values * in_use_BN,
        types_BN=some(NUM_EVENT_TYPES, num_moments, LENGTH) * in_use_BN,
        situations_BN=some(60, num_moments, LENGTH) * in_use_BN,
        values_BN=some(NUM_VALUE_BUCKETS, num_moments, LENGTH) * in_use_BN,
        users_BD=torch.randn(num_moments, DIMENSION, generator=generator),
        lengths_B=lengths_B,
        session_lengths_B=lengths_B // 2,
        hours_B=some(24, num_moments),
        weekdays_B=some(7, num_moments),
        slots_BC=some(60, num_moments, 2),
    )


def littered(clean: Inputs) -> Inputs:
    """The same with anything in what is not an item of empty slots."""
    empty_BN = clean.items_BN == 0
    return dataclasses.replace(
        clean,
        types_BN=clean.types_BN.masked_fill(empty_BN, 7),
        situations_BN=clean.situations_BN.masked_fill(empty_BN, 31),
        values_BN=clean.values_BN.masked_fill(empty_BN, 200),
    )


def with_hole(lengths: list[int], moment: int, place: int) -> Inputs:
    """Random inputs in which one item has been retired."""
    inputs = some_inputs(lengths)
    inputs.items_BN[moment, place], inputs.gaps_BN[moment, place] = 0, 0
    return inputs


def one_moment(together: Inputs, index: int) -> Inputs:
    """A single moment of a batch."""
    parts = {name: getattr(together, name)[index : index + 1] for name in EVERYTHING - {"vectors_RD"}}
    return dataclasses.replace(together, **parts)
