"""Torch as the settings want it."""

from __future__ import annotations

import os

import torch

from stream_rec.config import WorkerSettings
from stream_rec.errors import SettingsError


def configure_torch(worker: WorkerSettings) -> None:
    """Set the number of threads and try the device. Raises SettingsError where the device cannot be used."""
    torch.set_num_threads(worker.threads or len(os.sched_getaffinity(0)))
    try:
        torch.zeros(1, device=worker.device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"worker.device = {worker.device!r} cannot be used here ({str(error).splitlines()[0]}); allowed: cpu, "
            f"cuda where torch finds a card (torch {torch.__version__}: {torch.cuda.device_count()} found), mps"
        ) from error
