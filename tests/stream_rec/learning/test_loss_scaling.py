"""Loss scaling: what would vanish in float16 arrives, what overflows is left out and backed off from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stream_rec.learning.loss_scaling import LARGEST, SMALLEST, START, LossScaler, Precision, reduced
from stream_rec.learning.optimisers import AdamW
from tests.stream_rec.device_guards import OneDevice, no_waiting
from tests.stream_rec.tiny_worlds import differing

CPU, META = torch.device("cpu"), torch.device("meta")
SOUND, UNSOUND = torch.tensor(True), torch.tensor(False)


def scaler(precision: Precision = "float16", grow_after_steps: int = 4) -> LossScaler:
    return LossScaler(precision, CPU, grow_after_steps=grow_after_steps)


def updated(steps: str, grow_after_steps: int = 4) -> LossScaler:
    """One letter a step: s is sound, o overflowed."""
    made = scaler(grow_after_steps=grow_after_steps)
    for step in steps:
        made.update(SOUND if step == "s" else UNSOUND)
    return made


def made_module() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def gradients_of(module: nn.Module, precision: Precision, scaling: LossScaler, size: float) -> list[Tensor]:
    """Of a loss whose gradients at the outputs are about ``size``."""
    inputs = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    with reduced(precision, CPU):
        outputs = module(inputs)
    loss = outputs.float().sum() * size
    return scaling.unscale(torch.autograd.grad(scaling.scale(loss), list(module.parameters())))


# -- gradients -----------------------------------------------------------------------------------------------------


def test_gradients_that_would_vanish_in_float16_arrive_with_scaling() -> None:
    module, tiny = made_module(), 1e-9  # float16 ends at 6e-8
    exact = gradients_of(module, "float32", scaler("float32"), tiny)
    without = gradients_of(module, "float16", scaler("float32"), tiny)
    with_scaling = gradients_of(module, "float16", scaler(), tiny)
    assert all(gradient.abs().max() > 0 for gradient in exact)
    assert not any(gradient.any() for gradient in without)
    for gradient, expected in zip(with_scaling, exact, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, expected, rtol=0.02, atol=float(expected.abs().max()) * 0.01)


def test_bfloat16_needs_no_scale() -> None:
    made = scaler("bfloat16")
    loss, gradient = torch.tensor(3.0), torch.tensor([0.1])
    assert made.scale(loss) is loss
    assert made.unscale([gradient])[0] is gradient
    made.update(UNSOUND)
    assert made.factor == 1.0
    module = made_module()
    assert all(gradient.any() for gradient in gradients_of(module, "bfloat16", made, 1e-9))


def test_scaling_and_unscaling_are_exact() -> None:
    """In float32: every scale is a power of two."""
    made, values = scaler(), torch.randn(1_000, generator=torch.Generator().manual_seed(1))
    for _ in range(6):
        assert torch.equal(made.unscale([made.scale(values)])[0], values)
        made.update(UNSOUND)


def train(made: LossScaler, num_steps: int, size: float) -> tuple[list[bool], AdamW]:
    """Guarded steps on a loss of that size, in float16; which of them were sound."""
    module = made_module()
    optimiser = AdamW(module, weight_decay=0.0)
    were_sound = []
    for _ in range(num_steps):
        grad_P = torch.cat([g.reshape(-1) for g in gradients_of(module, "float16", made, size)])
        sound = torch.isfinite(grad_P.norm())
        before = optimiser.flat_P.clone()
        optimiser.step(grad_P, sound, rate=0.001)
        made.update(sound)
        were_sound.append(bool(sound))
        assert torch.equal(before, optimiser.flat_P) != were_sound[-1]
    return were_sound, optimiser


def test_an_overflow_leaves_the_step_out_backs_off_and_recovers() -> None:
    """Gradients at the outputs are 65,536 × 30 at first, far above float16's 65,504: halved until they fit."""
    made = scaler(grow_after_steps=100)
    were_sound, optimiser = train(made, 20, 30.0)
    num_left_out = were_sound.index(True)
    assert 5 <= num_left_out <= 11
    assert all(were_sound[num_left_out:])
    assert made.factor == START / 2**num_left_out
    assert optimiser.state()["num_steps"].item() == 20 - num_left_out


def test_a_scale_that_is_right_is_found_from_below_and_kept_about() -> None:
    """It grows until it overflows, falls back by one, and tries again: one step in so many is the price."""
    were_sound, _ = train(scaler(grow_after_steps=5), 120, 1.0)
    settled = were_sound[40:]
    assert 0 < settled.count(False) <= len(settled) // 5


# -- the scale -----------------------------------------------------------------------------------------------------


def test_it_doubles_after_a_run_and_halves_at_once() -> None:
    assert updated("sss").factor == START
    assert updated("ssss").factor == 2 * START
    assert updated("sssssss").factor == 2 * START
    assert updated("ssssssss").factor == 4 * START
    assert updated("o").factor == START / 2
    assert updated("sssosss").factor == START / 2  # the run begins anew
    assert updated("sssossss").factor == START


def test_it_is_bounded() -> None:
    assert updated("o" * 100).factor == SMALLEST
    assert updated("s" * 100, grow_after_steps=1).factor == LARGEST
    assert updated("s" * 100 + "o", grow_after_steps=1).factor == LARGEST / 2


@pytest.mark.parametrize("steps", ["", "sso", "ooooooooooooooooooooss", "ssssss"])
def test_a_restored_one_goes_on_as_the_first_would(steps: str) -> None:
    first, second = updated(steps), scaler()
    second.load_state(first.state())
    for step in "sssossss":
        for made in (first, second):
            made.update(SOUND if step == "s" else UNSOUND)
        assert differing(first.state(), second.state()) == []


def test_the_scale_of_another_precision_is_not_taken_over() -> None:
    made = scaler("float16")
    made.load_state(scaler("float32").state())
    assert made.factor == START
    made = scaler("bfloat16")
    made.load_state(updated("oo").state())
    assert made.factor == 1.0


def test_it_never_waits_and_stays_on_its_device() -> None:
    made = scaler()
    with no_waiting():
        made.update(torch.isfinite(made.unscale([made.scale(torch.ones(3))])[0]).all())
    made = LossScaler("float16", META, grow_after_steps=4)
    with OneDevice(), reduced("float16", META):
        gradients = made.unscale([made.scale(torch.ones(3, device=META))])
        made.update(torch.isfinite(gradients[0]).all())
    assert made.factor.device == META


# -- the context ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_products_run_in_the_precision_and_parameters_stay_float32(precision: Precision, dtype: torch.dtype) -> None:
    module = made_module()
    with reduced(precision, CPU):
        assert module(torch.ones(2, 8)).dtype == dtype
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert module(torch.ones(2, 8)).dtype == torch.float32
