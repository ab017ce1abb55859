"""The part of ``[learning]`` that says which algorithms move the parameters, and how they adapt to the stream."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from stream_rec.settings_tasks import TaskLearningSettings

Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class OptimiserSettings(TaskLearningSettings):
    """Algorithms, precision, adaptation; ``config.LearningSettings`` has these fields as its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row_optimiser: Literal["adagrad", "sgd", "adam", "rmsprop"] = Field(
        default="adagrad",
        description="Algorithm that moves embedding rows; all touch only rows with a gradient. adagrad and rmsprop "
        "keep one number a row, adam two more tables of the same size.",
    )
    row_l2: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="L2 penalty of an embedding row, in the steps that touch it."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of the entries of items' vectors that the encoder is not shown while it learns.",
    )
    dense_optimiser: Literal["adamw", "adam", "sgd", "adagrad", "rmsprop", "lion"] = Field(
        default="adamw",
        description="Algorithm that moves the encoder and the gate. The rates' defaults are for adamw: sgd wants more, "
        "lion 3 to 10 times less.",
    )
    second_stage_rate: PositiveFloat = Field(default=0.002, description="Learning rate of the second stage (AdamW).")
    replay_events: int = Field(
        default=8_192,
        gt=0,
        description="Newest events kept for the second stage to learn from again, about 16 kB each: with every batch "
        "it takes a step on as many old ones.",
    )
    exam_candidates: int = Field(
        default=64,
        gt=1,
        le=1000,
        description="Candidates of an event that the second stage learns from: the item taken and those it would list "
        "first.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="What the encoder computes in while it learns; parameters and lists stay float32. float16 scales "
        "its loss by itself, and leaves a batch out now and then to find how far it can.",
    )
    loss_scale_growth_steps: int = Field(
        default=500,
        gt=0,
        description="With float16 the loss's scale doubles after this many sound batches in a row, and halves at each "
        "overflow.",
    )
    adapt: bool = Field(
        default=True,
        description="Raise a part's learning rate when its loss drifts up, lower it while it is calm; let old counts "
        "weigh less where lists have become worse at once.",
    )
    drift_significance: Annotated[float, Field(gt=0, lt=0.01)] = Field(
        default=0.002, description="ADWIN's delta: lower takes surer signs of drift, and longer to see them."
    )
    drift_boosts: dict[str, Annotated[float, Field(ge=1, le=100)]] = Field(
        default={"gate": 3.0, "second_stage": 3.0},
        description="Part (gate, encoder, rows, second_stage) → what its learning rate is multiplied with when its "
        "loss has drifted up; parts not named keep theirs …",
    )
    drift_half_life_events: PositiveFloat = Field(
        default=2_000.0, description="… and what that is above 1 halves with every so many events."
    )
    drift_soften: Share = Field(
        default=0.1,
        description="Accumulators of rows are multiplied with this, once, when a loss has drifted up; 1 leaves them.",
    )
    drift_fade: Share = Field(
        default=0.3,
        description="Where lists have become worse at once, rules, item-kNN and the fast transitions counted so far "
        "are multiplied with this, beside what is counted from then on; 1 leaves them.",
    )
    calm_factor: Share = Field(
        default=0.5, description="Learning rates sink towards this share of their value while no loss drifts up …"
    )
    calm_half_life_events: PositiveFloat = Field(
        default=100_000.0, description="… and every so many events take them half of what is left of the way."
    )
