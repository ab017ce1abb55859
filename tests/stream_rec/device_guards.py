"""Modes that refuse what a CPU forgives and an accelerator does not: waiting for the device, mixing devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# The size or the value of the result depends on data: the host has to wait until the device has computed it.
WAITING_OPERATORS = frozenset(
    {
        "_local_scalar_dense",
        "_unique",
        "_unique2",
        "bincount",
        "equal",
        "is_nonzero",
        "item",
        "masked_select",
        "nonzero",
        "unique_consecutive",
        "unique_dim",
    }
)
WAITING_METHODS = frozenset(
    {"__array__", "__bool__", "__float__", "__index__", "__int__", "cpu", "item", "nonzero", "numpy", "tolist"}
)
INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
COPIES = frozenset({"_to_copy", "copy_", "copy"})


class WaitsForDeviceError(AssertionError):
    """An operation that makes the host wait for the device."""


class MixesDevicesError(AssertionError):
    """An operation on tensors of several devices."""


class _NoWaitingOperators(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        arguments = tree_flatten((args, kwargs or {}))[0]
        by_mask = name in INDEXING and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        counted = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if name in WAITING_OPERATORS or by_mask or (counted and isinstance(arguments[-1], torch.Tensor)):
            raise WaitsForDeviceError(str(func))
        return func(*args, **(kwargs or {}))


class _NoWaitingMethods(TorchFunctionMode):
    """``tolist`` and ``numpy`` of a CPU tensor read its memory and dispatch nothing: they are caught by name."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in WAITING_METHODS:
            raise WaitsForDeviceError(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Within it the host may upload, but never wait for a result."""
    with _NoWaitingOperators(), _NoWaitingMethods():
        yield


class OneDevice(TorchDispatchMode):
    """Within it no operation but a copy may see two devices; scalars of the CPU are welcome everywhere."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        arguments = tree_flatten((args, kwargs or {}))[0]
        devices = {a.device for a in arguments if isinstance(a, torch.Tensor) and (a.dim() or a.device.type != "cpu")}
        if len(devices) > 1 and func.overloadpacket.__name__ not in COPIES:
            raise MixesDevicesError(f"{func} on {sorted(map(str, devices))}")
        return func(*args, **(kwargs or {}))
