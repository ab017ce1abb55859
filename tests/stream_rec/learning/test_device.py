"""A whole step on another device: on ``meta``, which computes nothing but fails on every mix of devices, and on the
CPU under modes that refuse whatever would make the host wait for an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from stream_rec.config import WorkerSettings
from stream_rec.errors import SettingsError
from stream_rec.learning.device import configure_torch
from stream_rec.learning.learner import Learner
from stream_rec.models.registry import ENCODERS
from tests.stream_rec.device_guards import MixesDevicesError, OneDevice, WaitsForDeviceError, no_waiting
from tests.stream_rec.tiny_worlds import attributes, batches, learn, rich, small_settings

# Softmax (0: over a sample) and repeats concern what is around an encoder: all combinations with one, one with each.
over_cases = pytest.mark.parametrize(
    ("encoder", "full_softmax_max_items", "exclude_seen"),
    [
        *product(["attention"], [1_000, 0], [True, False]),
        *product(sorted(ENCODERS.keys() - {"attention"}), [0], [True]),
    ],
)


def make_learner(encoder: str, full_softmax_max_items: int, exclude_seen: bool, device: str = "cpu") -> Learner:
    """Fewer rows than there are items, so that some are retired; attributes; seen items that are excluded."""
    return Learner(
        small_settings(
            worker={"device": device},
            model={"encoder": encoder},
            state={"max_items": 30, "max_users": 25},
            ranking={"exclude_seen": exclude_seen},
            learning={"full_softmax_max_items": full_softmax_max_items},
        )
    )


def tensors_of(state: Any) -> list[torch.Tensor]:
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in tensors_of(value)]
    return [state] if isinstance(state, torch.Tensor) else []


@over_cases
def test_law_8_a_whole_step_runs_on_the_configured_device(
    encoder: str, full_softmax_max_items: int, exclude_seen: bool
) -> None:
    """Entering, ranking, loss, backward, optimisers, statistics and histories: all but reading the result back."""
    learner = make_learner(encoder, full_softmax_max_items, exclude_seen, device="meta")
    assert {tensor.device.type for tensor in tensors_of(learner.state())} == {"meta"}
    with OneDevice():
        learner.update_catalogue(attributes(40, unavailable=[3]))
        for batch in batches(rich(320)):
            moments = learner.enter(batch)
            look = learner.ranker.look(moments)
            entered = learner.ranker.order(look, moments, 10)
            outcome = learner.trainer.step(moments, look, learner.batch)
            learner.memory.update(moments)
            learner.trainer.sampler.observe(moments.items[moments.counts])
            learner.batch += 1
            looking = learner.ranker.rank(learner.memory.looking(batch[-3:]), 10)
    assert learner.memory.items.num_evicted > 0
    assert learner.memory.users.num_evicted > 0
    assert (entered.rows_BK.shape, looking.rows_BK.shape) == ((64, 10), (3, 10))
    results = [entered.rows_BK, looking.scores_BK, outcome.loss, outcome.sound, *tensors_of(learner.state())]
    assert {tensor.device.type for tensor in results} == {"meta"}


@over_cases
def test_law_7_the_loop_never_waits_for_the_device(
    encoder: str, full_softmax_max_items: int, exclude_seen: bool
) -> None:
    learner = make_learner(encoder, full_softmax_max_items, exclude_seen)
    learner.update_catalogue(attributes(40, unavailable=[3]))
    for batch in batches(rich(320)):
        moments = learner.enter(batch)
        with no_waiting():
            look = learner.ranker.look(moments)
            learner.ranker.order(look, moments, 10)
            outcome = learner.trainer.step(moments, look, learner.batch)
            learner.memory.update(moments)
            learner.ranker.rank(learner.memory.looking(batch[-3:]), 10)
        learner.trainer.sampler.observe(moments.items[moments.counts])
        learner.batch += 1
        assert bool(outcome.sound)


def test_entering_a_batch_uploads_and_never_waits() -> None:
    """Rows are retired on the way: cleaning up after them must not wait either."""
    learner = make_learner("attention", 1_000, exclude_seen=True)
    for batch in batches(rich(320)):
        with no_waiting():
            moments = learner.enter(batch)
        learner.learn(moments)
    assert learner.memory.items.num_evicted > 0


def test_learning_reads_back_six_scalars_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner("attention", 1_000, exclude_seen=True)
    learn(learner, rich(64))
    moments = learner.enter(rich(64))
    read: list[tuple[int, ...]] = []
    tolist = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        read.append(tuple(tensor.shape))
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    learner.learn(moments)
    assert read == [(6,)]


# -- the guards themselves, shown what they are to find ------------------------------------------------------------

ROWS = torch.arange(6)
VALUES = torch.linspace(-1, 1, 6)

WAITING: dict[str, Callable[[], Any]] = {
    "item": lambda: VALUES[0].item(),
    "float": lambda: float(VALUES.sum()),
    "if": lambda: 1 if VALUES.sum() > 0 else 0,
    "tolist": lambda: VALUES.tolist(),
    "numpy": lambda: VALUES.numpy(),
    "asarray": lambda: np.asarray(VALUES),
    "cpu": lambda: VALUES.cpu(),
    "nonzero": lambda: VALUES.nonzero(),
    "where of one argument": lambda: torch.where(VALUES > 0),
    "unique": lambda: torch.unique(ROWS),
    "consecutive": lambda: torch.unique_consecutive(ROWS),
    "mask": lambda: VALUES[VALUES > 0],
    "write by mask": lambda: VALUES.clone().index_put_((VALUES > 0,), VALUES[:3]),
    "masked_select": lambda: VALUES.masked_select(VALUES > 0),
    "equal": lambda: torch.equal(VALUES, VALUES),
    "bincount": lambda: torch.bincount(ROWS),
    "repeat": lambda: torch.repeat_interleave(VALUES, ROWS),
    "one_hot": lambda: torch.nn.functional.one_hot(ROWS, 6),
}


@pytest.mark.parametrize("name", WAITING)
def test_waiting_is_found(name: str) -> None:
    with no_waiting(), pytest.raises(WaitsForDeviceError):
        WAITING[name]()


def test_what_does_not_wait_passes() -> None:
    with no_waiting():
        uploaded = torch.from_numpy(np.arange(3)).to("cpu")
        VALUES[uploaded] = torch.where(VALUES[uploaded] > 0, VALUES[uploaded], VALUES[uploaded])
        VALUES.clone().masked_fill_(VALUES > 0, 0.0)
        VALUES[1:4].sort(stable=True).values.cumsum(0)


def test_mixed_devices_are_found() -> None:
    with OneDevice():
        table = torch.zeros(4, 2, device="meta")
        table[torch.arange(2, device="meta")] * torch.tensor(2.0, device="cpu")
        torch.arange(2, device="cpu").to("meta")
        with pytest.raises(MixesDevicesError):
            table[torch.arange(2, device="cpu")]


# -- torch as the settings want it ---------------------------------------------------------------------------------


def test_threads_are_those_of_the_settings() -> None:
    before = torch.get_num_threads()
    try:
        configure_torch(WorkerSettings(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"worker\.device = 'xpu:7' cannot be used here .*allowed: cpu, cuda"):
        configure_torch(WorkerSettings(device="xpu:7"))
