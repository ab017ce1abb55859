"""The part of ``[state]`` that says how fast each statistic forgets."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StatisticsSettings(BaseModel):
    """Half-lives; ``config.StateSettings`` has these fields as its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    popularity_half_lives_s: list[PositiveFloat] = Field(
        default=[300.0, 1_200.0, 7_200.0, 43_200.0, 345_600.0],
        min_length=1,
        description="Half-lives of the decayed popularity statistics (s); one that never decays is added.",
    )
    transition_half_lives_s: list[PositiveFloat] = Field(
        default=[86_400.0, 5_184_000.0],
        min_length=2,
        max_length=2,
        description="Half-lives of the transitions from one item to the next (s): a fast one and a slow one.",
    )
    rule_half_life_s: PositiveFloat = Field(
        default=2_592_000.0, description="Half-life of the sequential rules, which look five items back (s)."
    )
    knn_half_life_s: PositiveFloat = Field(
        default=5_184_000.0, description="Half-life of what the item-kNN counts as taken together (s)."
    )
    kind_half_life_s: PositiveFloat = Field(
        default=10_800.0,
        description="Half-life of what is counted under each value of a request's context: popularity among people of "
        "a kind (s).",
    )
