"""The part of ``[ranking]`` that says how much is shown to find out."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ExplorationSettings(BaseModel):
    """Exploration; ``config.RankingSettings`` has these fields as its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    explore_share: Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)] = Field(
        default=0.0,
        description="Share of the places of published lists that new items get, drawn by chance; every place then says "
        "how likely it was. 0 shows only what is held for best. Exams (replay, evaluate) leave it out.",
    )
    explore_until_events: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=30.0, description="An item is new until its events weigh so much together …"
    )
    explore_items_younger_than_s: Annotated[float, Field(gt=0)] = Field(
        default=604_800.0,
        description="… and while its first one is no longer ago than this (s); unless it had none yet.",
    )
