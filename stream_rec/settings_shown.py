"""What concerns impressions.

Each class is a part of the section of ``config`` that has its fields as its own.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImpressionSettings(_Part):
    """Of ``[decode]``."""

    max_impressions: int = Field(
        default=50, gt=0, le=1_000, description="Items kept of what was shown with an event; further ones are dropped."
    )
