"""Tables sized by their bound, paid for by what is used."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def zeros(*shape: int, dtype: torch.dtype = torch.float32, device: torch.device) -> Tensor:
    """As torch.zeros; on the CPU memory becomes resident only where it is written.

    torch.zeros writes every page at once; numpy's calloc leaves that to the kernel, so that a bound of a million
    users costs nothing until they come.
    """
    if device.type != "cpu":
        return torch.zeros(*shape, dtype=dtype, device=device)
    width_bytes = dtype.itemsize
    return torch.from_numpy(np.zeros(shape, dtype=f"V{width_bytes}").view(f"i{width_bytes}")).view(dtype)
