"""The part of ``[ranking]`` that says in which stages a list comes about."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StageSettings(BaseModel):
    """Stages; ``config.RankingSettings`` has these fields as its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_candidates: int = Field(default=128, gt=0, le=1000, description="Items that the second stage weighs.")
    second_stage: bool = Field(
        default=True, description="Let a second stage order the candidates; false takes the first stage's order."
    )
    history_attention: bool = Field(
        default=True, description="Let the candidates of the second stage attend over the user's history."
    )
