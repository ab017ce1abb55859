"""The part of ``[learning]`` that says which algorithms move the parameters, and how they adapt to the stream."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class OptimiserSettings(BaseModel):
    """Algorithms; ``config.LearningSettings`` has these fields as its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row_optimiser: Literal["adagrad", "sgd", "adam", "rmsprop"] = Field(
        default="adagrad",
        description="Algorithm that moves embedding rows; all touch only rows with a gradient. adagrad and rmsprop "
        "keep one number a row, adam two more tables of the same size.",
    )
    row_l2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="L2 penalty of an embedding row, in the steps that touch it."
    )
    dense_optimiser: Literal["adamw", "adam", "sgd", "adagrad", "rmsprop", "lion"] = Field(
        default="adamw",
        description="Algorithm that moves the encoder and the gate. The rates' defaults are for adamw: sgd wants more, "
        "lion 3 to 10 times less.",
    )
