"""Reduced precision: the encoder's forward in 16 bits, and a loss scaled so that float16 gradients do not vanish.

Parameters, moments and everything outside the context stay float32 (Micikevicius et al., "Mixed precision training",
ICLR 2018). bfloat16 has float32's range and needs no scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from stream_rec.errors import SettingsError

Precision = Literal["float32", "bfloat16", "float16"]

# Powers of two, so that scaling and unscaling are exact. Above the largest float16 overflows every step.
LARGEST, SMALLEST = 2.0**24, 1.0
START = 2.0**16


def check_precision(precision: Precision, encoder: str, device: torch.device) -> None:
    """Raises SettingsError where ``encoder`` cannot compute in ``precision`` on ``device``: better now than at work."""
    if (precision, encoder, device.type) == ("float16", "lstm", "cpu"):
        raise SettingsError(
            "learning.precision = 'float16' has no LSTM on the CPU; allowed with model.encoder = 'lstm': float32, "
            "bfloat16, and float16 where worker.device is an accelerator"
        )


def reduced(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Within it, matrix products and attention on ``device`` run in ``precision``; float32 changes nothing.

    On the meta device, which keeps shapes only, precision has no meaning and nothing changes either.
    """
    if precision == "float32" or device.type == "meta":
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


class LossScaler:
    """A scale that doubles after a run of sound steps and halves at each overflow; it never waits for the device.

    ``scale`` the loss before backward, ``unscale`` the gradients before anything else looks at them, decide from
    them whether the step is sound, leave it out where it is not, and ``update``.
    """

    def __init__(self, precision: Precision, device: torch.device, *, grow_after_steps: int) -> None:
        """``grow_after_steps`` sound steps in a row double the scale. Only float16 is scaled."""
        self._precision = precision
        self._enabled = precision == "float16"
        self._grow_after_steps = grow_after_steps
        self._scale = torch.full((), START if self._enabled else 1.0, device=device)
        self._num_sound = torch.zeros((), device=device)

    @property
    def factor(self) -> Tensor:
        """The scale as it is, a float32 scalar on the device: for a metric."""
        return self._scale.clone()

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to take gradients of."""
        return loss * self._scale if self._enabled else loss

    def unscale(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients as if the loss had not been scaled, float32. What has overflowed stays infinite or NaN."""
        if not self._enabled:
            return list(gradients)
        inverse = self._scale.reciprocal()
        return [gradient.float() * inverse for gradient in gradients]

    def update(self, sound: Tensor) -> None:
        """Take in whether the step was sound: a boolean scalar on the device."""
        if not self._enabled:
            return
        num_sound = self._num_sound + 1
        grows = num_sound >= self._grow_after_steps
        grown = torch.where(grows, (self._scale * 2).clamp(max=LARGEST), self._scale)
        self._scale.copy_(torch.where(sound, grown, (self._scale / 2).clamp(min=SMALLEST)))
        self._num_sound.copy_(torch.where(sound & ~grows, num_sound, 0.0))

    def state(self) -> dict[str, Any]:
        """Scale and the length of the run."""
        return {"precision": self._precision, "scale": self._scale.clone(), "num_sound": self._num_sound.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``. A scale that another precision had is not taken over."""
        if state["precision"] == self._precision:
            self._scale.copy_(state["scale"])
            self._num_sound.copy_(state["num_sound"])
