"""Tables are as torch's own, and memory is paid for where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stream_rec.state.allocation import zeros
from tests.stream_rec.state.worlds import CPU

PAGE_BYTES = 4096


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.uint8])
@pytest.mark.parametrize("shape", [(3, 5), (7,), (0, 4)])
def test_zeros_are_torch_zeros(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    table = zeros(*shape, dtype=dtype, device=CPU)
    assert table.dtype == dtype
    assert torch.equal(table, torch.zeros(*shape, dtype=dtype, device=CPU))
    assert table.is_contiguous()


def test_tables_share_no_memory() -> None:
    one, other = zeros(4, device=CPU), zeros(4, device=CPU)
    one += 1
    assert one.tolist() == [1.0] * 4
    assert other.tolist() == [0.0] * 4


def test_a_bound_costs_nothing_until_it_is_used() -> None:
    before = resident_bytes()
    table = zeros(1 << 20, 256, device=CPU)  # 1 GiB
    assert resident_bytes() - before < 64 << 20
    table[5] = 1.0
    assert table[4:7].sum(1).tolist() == [0.0, 256.0, 0.0]


def test_other_devices_get_their_own_tensors() -> None:
    assert zeros(2, 3, device=torch.device("meta")).device.type == "meta"
