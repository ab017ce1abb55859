"""The contract of an optimiser: a step that can be left out without asking the device whether to.

``sound`` is a tensor. Where it is false, parameters, moments and counts stay bit for bit as they were.

Two kinds. ROW optimisers move the given rows of a table, at a cost that the table's size has no part in; what they
remember of a row lies in the table, so that it goes with the row. DENSE ones move all parameters of a module.

Shapes: I = rows of a table, R = rows of a working set, W = width, P = all parameters of a module, flat.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stream_rec.models.items import RowTable

Rate = float | Tensor  # a tensor where a captured step must read it anew: a float would be frozen into the graph
Rows = Tensor | slice


class RowOptimiser(ABC):
    """Moves rows that have a gradient, and no others."""

    accumulates: ClassVar[bool] = False  # whether the table's accumulators are in use

    def __init__(self, *, l2: float = 0.0) -> None:
        """``l2`` times a row is added to its gradient, in a step that touches the row anyway."""
        self._l2 = l2

    def step(self, table: RowTable, rows_R: Rows, grad_RW: Tensor, sound: Tensor, *, rate: Rate) -> None:
        """One step on ``rows_R`` where ``sound``, else none.

        ``rows_R`` must not repeat a row, save row 0: its first gradient counts, the others are fillers. Rows whose
        gradient is zero are left exactly as they are.
        """
        if isinstance(rows_R, Tensor):
            # Which of several writes to one row stays is undefined on an accelerator: let all of them write the same.
            grad_RW = torch.where(rows_R[:, None] > 0, grad_RW, grad_RW[:1])
        square_R = grad_RW.square().mean(1)
        touched_R = sound & (square_R > 0)
        if self._l2:
            grad_RW = grad_RW + self._l2 * table.weight_IW[rows_R]
            square_R = grad_RW.square().mean(1)
        step_RW = self._move(table, rows_R, grad_RW, square_R, touched_R, rate)
        # Not step * 0: a non-finite gradient times zero would still poison the row.
        table.weight_IW[rows_R] -= torch.where(touched_R[:, None], step_RW, 0.0)

    @abstractmethod
    def _move(
        self, table: RowTable, rows_R: Rows, grad_RW: Tensor, square_R: Tensor, touched_R: Tensor, rate: Rate
    ) -> Tensor:
        """What to take off the rows [R, W]; what is remembered of those ``touched_R`` is brought up to date.

        ``square_R`` is the mean square of each row of ``grad_RW``. Where a row is not touched, anything may be
        returned, a NaN too, and nothing of it may be written.
        """

    def soften(self, table: RowTable, num_rows: int, factor: float) -> None:
        """Forget by ``factor`` how much rows below ``num_rows`` have moved, so that they can move again.

        Nothing to do where an algorithm does not remember it, or where its averages forget by themselves.
        """
        if self.accumulates:
            table.soften(num_rows, factor)


def remember(slot_I: Tensor, rows_R: Rows, touched_R: Tensor, new_R: Tensor, old_R: Tensor) -> None:
    """Write what an algorithm remembers, [R] or [R, W], of the rows that were touched."""
    mask_R = touched_R if new_R.dim() == 1 else touched_R[:, None]
    slot_I[rows_R] = torch.where(mask_R, new_R, old_R)


class DenseOptimiser(ABC):
    """Moves one flat copy of a module's parameters.

    The parameters become views of ``flat_P``, so a step is a handful of kernels whatever their number. ``slots``
    names what an algorithm remembers of each parameter; all start at zero.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, module: nn.Module, *, weight_decay: float) -> None:
        self.parameters = list(module.parameters())
        self._weight_decay = weight_decay
        self.flat_P = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        start = 0
        for parameter in self.parameters:
            end = start + parameter.numel()
            parameter.data = self.flat_P[start:end].view(parameter.shape)
            start = end
        self._slots = {name: torch.zeros_like(self.flat_P) for name in self.slots}
        self._num_steps = torch.zeros((), device=self.flat_P.device)

    def step(self, grad_P: Tensor, sound: Tensor, *, rate: Rate) -> None:
        """One step where ``sound``, else none: parameters, moments and the step count stay as they were."""
        num_steps = self._num_steps + 1
        step_P, slots = self._move(grad_P, num_steps, rate)
        # In place: a captured step finds its tensors where they were.
        self.flat_P.copy_(torch.where(sound, self.flat_P - step_P, self.flat_P))
        for name, new_P in slots.items():
            self._slots[name].copy_(torch.where(sound, new_P, self._slots[name]))
        self._num_steps.copy_(torch.where(sound, num_steps, self._num_steps))

    def descend(self, loss: Tensor, *, rate: Rate, clip_norm: float) -> None:
        """A step down ``loss``, its gradient clipped to a norm; left out where loss or gradient is not finite."""
        gradients = torch.autograd.grad(loss, self.parameters)
        grad_P = torch.cat([gradient.reshape(-1) for gradient in gradients])
        norm = grad_P.norm()
        sound = torch.isfinite(norm) & torch.isfinite(loss)
        self.step(grad_P * (clip_norm / norm).clamp(max=1.0), sound, rate=rate)

    @abstractmethod
    def _move(self, grad_P: Tensor, num_steps: Tensor, rate: Rate) -> tuple[Tensor, dict[str, Tensor]]:
        """What to take off the parameters [P], and what the slots become [P]; writes nothing.

        ``num_steps`` counts this step, from 1.
        """

    def state(self) -> dict[str, Any]:
        """Parameters, slots and the number of steps."""
        slots = {name: slot_P.clone() for name, slot_P in self._slots.items()}
        return {"parameters": self.flat_P.clone(), **slots, "num_steps": self._num_steps.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``. Raises ValueError where the shapes are another model's.

        From the state of another algorithm come the parameters, and of the slots those that both know.
        """
        if state["parameters"].shape != self.flat_P.shape:
            raise ValueError(f"{state['parameters'].numel()} parameters where the model has {self.flat_P.numel()}")
        self.flat_P.copy_(state["parameters"])
        known = {name: slot_P for name, slot_P in self._slots.items() if name in state}
        for name, slot_P in known.items():
            slot_P.copy_(state[name])
        # Averages that have only begun need their bias corrected as if the steps had, too.
        if len(known) == len(self._slots):
            self._num_steps.copy_(state["num_steps"])
