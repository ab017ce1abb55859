"""The part of ``[learning]`` that says what is learnt of an item besides that it is taken."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
EventTypes = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=64)]


class TaskSettings(BaseModel):
    """One task, ``[learning.tasks.<name>]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["happens", "value"] = Field(
        default="happens",
        description="happens: whether the event is of these types; value: what value such an event has.",
    )
    types: EventTypes = Field(default=[], description="Event types of the task; none given takes the task's name.")
    logarithmic: bool = Field(
        default=False, description="Learn log(1 + value): for what has a long tail, as seconds and prices have."
    )
    weight: NonNegative = Field(default=0.0, description="How much it counts in the lists.")

    def of_types(self, name: str) -> frozenset[str]:
        """Event types of the task, whose name is ``name``."""
        return frozenset(self.types or [name])


TaskName = Annotated[str, Field(min_length=1, max_length=64)]
Tasks = Annotated[dict[TaskName, TaskSettings], Field(max_length=16)]


class TaskLearningSettings(BaseModel):
    """Tasks and how they share the network; ``config.LearningSettings`` has these fields as its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: Tasks = Field(
        default={},
        description="Task → what is learnt of an item besides that it is taken. `kind` happens: whether the event is "
        "of one of `types` (none given: the task's name); value: its value, or with `logarithmic` log(1 + value). In "
        "the lists taking an item counts 1, and each task adds `weight` times its probability, or its chance of a "
        "value above the average.",
    )
    task_balance: Literal["uncertainty", "sum"] = Field(
        default="uncertainty",
        description="uncertainty gives each task a like say, however rare it is; sum adds up what their events lose.",
    )
    task_share: NonNegative = Field(
        default=0.3,
        description="Share of the tasks' gradient that reaches encoder and rows; 0 leaves those to the list.",
    )
    task_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.003, description="Learning rate of the tasks' heads and of their balance."
    )
