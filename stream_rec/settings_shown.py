"""What concerns impressions: how many are read, what is counted of them, and whether given lists are put in order.

Each class is a part of the section of ``config`` that has its fields as its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImpressionSettings(_Part):
    """Of ``[decode]``."""

    max_impressions: int = Field(
        default=50, gt=0, le=1_000, description="Items kept of what was shown with an event; further ones are dropped."
    )


class ExposureSettings(_Part):
    """Of ``[state]``."""

    num_exposure_buckets: int = Field(
        default=262_144,
        ge=2,
        description="Rows of the hashed table that counts how often items were shown and taken; the first stands for "
        "none.",
    )
    exposure_half_life_s: PositiveFloat = Field(default=2_592_000.0, description="Half-life of these counts (s).")


class OrderSettings(_Part):
    """Of ``[learning]``."""

    impressions: Literal["debiased", "plain", "off"] = Field(
        default="debiased",
        description="How the second stage learns from what was shown and not taken, where events carry impressions: "
        "debiased tells what an item is worth from what its place is worth; plain does not.",
    )
    order_shown: bool = Field(
        default=False,
        description="Learn, from events that carry impressions, to put a given list in order.",
    )
    order_rate: PositiveFloat = Field(default=0.004, description="Learning rate of what does that (AdamW).")
