"""Algorithms, adaptation and precision inside the learner: as the settings say, seen in the rates, and resumed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from stream_rec.config import Settings
from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.errors import SettingsError
from stream_rec.learning import drift, trainer
from stream_rec.learning.adaptation import LISTS
from stream_rec.learning.learner import Learner
from stream_rec.learning.loss_scaling import START
from stream_rec.models.registry import ENCODERS
from stream_rec.records import Event
from tests.stream_rec.device_guards import OneDevice, no_waiting
from tests.stream_rec.tiny_worlds import BATCH, attributes, batches, cycle, differing, learn, rich, small_settings

NUM_CALM = 50 * BATCH
PARTS = ("gate", "encoder", "rows", LISTS)
BASE = {"gate": 0.01, "encoder": 0.001, "rows": 0.05, LISTS: 0.002}


@pytest.fixture(autouse=True)
def watched_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "BLOCK_EVENTS", BATCH)


def settings(folder: Path | None = None, **learning: Any) -> Settings:
    boosted = {"drift_boosts": dict.fromkeys(PARTS, 4.0), "calm_factor": 1.0}
    return small_settings(learning=boosted | learning, snapshot={"directory": folder} if folder else {})


def ring_that_turns(num_after: int) -> list[Event]:
    """A ring with noise, so that its loss has some; after ``NUM_CALM`` events it goes on in another order."""
    rng, events = random.Random(3), []
    for n, event in enumerate(cycle(NUM_CALM + num_after)):
        place = int(event.item_id[1:]) * (7 if n >= NUM_CALM else 1) % 20
        if rng.random() < 0.3:
            place = rng.randrange(20)
        events.append(msgspec.structs.replace(event, item_id=f"i{place}"))
    return events


CALM, TURNED = (ring_that_turns(8 * BATCH)[part] for part in (slice(NUM_CALM), slice(NUM_CALM, None)))


@pytest.fixture(scope="module")
def calm_state() -> Iterator[dict[str, Any]]:
    """What a learner is like after the calm; nothing has been raised or softened yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drift, "BLOCK_EVENTS", BATCH)
        learner = Learner(settings())
        learn(learner, CALM)
        assert learner.rates() == BASE
        yield learner.state()


def calm_learner(state: dict[str, Any], **learning: Any) -> Learner:
    learner = Learner(settings(**learning))
    learner.load_state(state)
    return learner


# -- drift ---------------------------------------------------------------------------------------------------------


def test_a_drift_raises_the_rates_at_once_and_they_come_back(calm_state: dict[str, Any]) -> None:
    learner = calm_learner(calm_state, drift_half_life_events=2 * BATCH)
    factors = []
    for batch in batches(TURNED):
        learn(learner, batch)
        factors.append({part: rate / BASE[part] for part, rate in learner.rates().items()})
    for part in PARTS:
        raised = [one[part] for one in factors]
        peak = raised.index(max(raised))
        assert raised[peak] == pytest.approx(4.0)
        assert peak < 4
        assert raised[peak + 2] == pytest.approx(1.0 + 3.0 / 2.0)


def test_a_drift_softens_the_rows_that_are_in_use(calm_state: dict[str, Any]) -> None:
    softened, kept = (calm_learner(calm_state, drift_soften=share) for share in (0.01, 1.0))
    for learner in (softened, kept):
        learn(learner, TURNED[: 4 * BATCH])
    for table in ("item_in", "item_out", "user_in"):
        soft_I, hard_I = (getattr(learner.network, table).accumulator_I[1:21] for learner in (softened, kept))
        assert (soft_I < hard_I).all()
        start_I = getattr(Learner(settings()).network, table).accumulator_I
        assert torch.equal(getattr(softened.network, table).accumulator_I[50:], start_I[50:])


def test_what_went_with_what_counts_for_less_once_the_lists_are_worse(calm_state: dict[str, Any]) -> None:
    faded, kept = (calm_learner(calm_state, drift_fade=share) for share in (0.25, 1.0))
    for batch in batches(TURNED):
        for learner in (faded, kept):
            learn(learner, batch)
        if faded.rates()[LISTS] > BASE[LISTS]:
            break
    for name, half_life, share in (("transitions", 0, 0.25), ("transitions", 1, 1.0), ("rules", 0, 0.25)):
        ours, theirs = (getattr(learner.memory.statistics, name) for learner in (faded, kept))
        assert theirs.weights_WIM[half_life].sum() > 0.0
        assert torch.equal(ours.weights_WIM[half_life], share * theirs.weights_WIM[half_life])
        assert torch.equal(ours.mass_WI[half_life], share * theirs.mass_WI[half_life])


def test_law_5_resumed_around_a_drift_equals_uninterrupted(calm_state: dict[str, Any], tmp_path: Path) -> None:
    """Killed before the alarm, just after it, and while the rates come back: the same bits, through the disk."""
    whole = calm_learner(calm_state)
    learn(whole, TURNED)
    assert all(rate > 2 * BASE[part] for part, rate in whole.rates().items())
    going = calm_learner(calm_state)
    kept = settings(tmp_path, calm_factor=1.0)
    for batch in batches(TURNED):
        SnapshotStore(kept).write(going.batch, [], {"learner": going.state()})
        snapshot = SnapshotStore(kept).newest()
        assert snapshot is not None
        going = calm_learner(snapshot.state["learner"])
        learn(going, batch)
    assert going.rates() == whole.rates()
    assert differing(going.state(), whole.state()) == []


def test_switched_off_the_rates_stay_and_nothing_else_is_different(calm_state: dict[str, Any]) -> None:
    """As an adaptation that has no effect at all, bit for bit."""
    off = calm_learner(calm_state, adapt=False)
    idle = calm_learner(calm_state, drift_boosts={}, drift_soften=1.0, drift_fade=1.0)
    watching = off.state()["trainer"]["adaptation"]
    for learner in (off, idle):
        learn(learner, TURNED)
    assert off.rates() == BASE
    assert differing(off.state()["trainer"]["adaptation"], watching) == []
    assert {name.rsplit("adaptation")[0] for name in differing(off.state(), idle.state())} == {"trainer."}


def test_calm_lowers_the_rates_by_the_events_that_count() -> None:
    learner = Learner(settings(calm_factor=0.5, calm_half_life_events=BATCH, warmup_steps=0))
    learn(learner, rich(128))
    num_counted = sum(event.type != "impression" for event in rich(128))
    assert 0 < num_counted < 128
    factor = 0.5 + 0.5 * 2.0 ** (-num_counted / BATCH)
    slower = {part: rate * factor for part, rate in BASE.items() if part != LISTS}
    assert learner.rates() == pytest.approx(slower | {LISTS: BASE[LISTS]})


# -- the losses that it goes by ------------------------------------------------------------------------------------


def losses_of(learner: Learner, events: list[Event]) -> tuple[float, float, float]:
    """The whole loss, the statistics' and the residual's."""
    moments = learner.enter(events)
    outcome = learner.trainer.step(moments, learner.ranker.look(moments), learner.batch)
    return outcome.loss.item(), outcome.statistics_loss.item(), outcome.residual_loss.item()


def test_the_losses_of_the_parts_are_what_the_loss_is_made_of(calm_state: dict[str, Any]) -> None:
    whole, statistics, residual = losses_of(calm_learner(calm_state), TURNED[:BATCH])
    assert min(statistics, residual) > 1.0
    assert whole == pytest.approx(statistics + residual)


def test_what_had_nothing_to_learn_from_has_no_loss() -> None:
    """0 would look like a loss that has fallen."""
    learner = Learner(settings())
    whole, statistics, residual = losses_of(learner, [Event("u", "new", "click", 0)])
    assert math.isfinite(whole)
    assert math.isnan(statistics)  # no statistic can know of an item before its first event
    assert math.isfinite(residual)
    whole, statistics, residual = losses_of(learner, [Event("u", "new", "impression", 0)])
    assert whole == 0.0
    assert math.isnan(statistics)
    assert math.isnan(residual)


def test_the_loss_of_the_lists_is_what_they_miss(calm_state: dict[str, Any]) -> None:
    learner = calm_learner(calm_state)
    moments = learner.enter(TURNED[:BATCH])
    lists = learner.rank_entered(moments)
    counted = [n for n, weight in enumerate(moments.target_weight_B.tolist()) if weight > 0]
    ranks = [(lists[n].index(TURNED[n].item_id) if TURNED[n].item_id in lists[n][:10] else None) for n in counted]
    ndcg = sum(1.0 / math.log2(rank + 2.0) for rank in ranks if rank is not None) / len(counted)
    outcome = learner.trainer.step(moments, learner.ranker.look(moments), learner.batch)
    assert 0.0 < ndcg < 1.0
    assert outcome.list_loss.item() == pytest.approx(1.0 - ndcg)
    nothing = learner.enter([Event("u", "new", "impression", 0)])
    assert math.isnan(learner.trainer.step(nothing, learner.ranker.look(nothing), 1).list_loss.item())


# -- dropout -------------------------------------------------------------------------------------------------------


def test_dropout_thins_what_is_learnt_from_and_no_list(calm_state: dict[str, Any]) -> None:
    whole, thinned, again = (calm_learner(calm_state, dropout=share) for share in (0.0, 0.3, 0.3))
    asked = [learner.enter(TURNED[:BATCH]) for learner in (whole, thinned, again)]
    assert whole.rank_entered(asked[0]) == thinned.rank_entered(asked[1])
    losses = [learner.learn(moments) for learner, moments in zip((whole, thinned, again), asked, strict=True)]
    assert losses[0] != losses[1] == losses[2]
    assert differing(thinned.state(), again.state()) == []


def test_what_dropout_leaves_has_the_same_mean() -> None:
    learner = Learner(settings(dropout=0.25))
    ones_RD = torch.ones(500, 64, device="cpu")
    left_RD = learner.trainer._thinned(ones_RD, torch.Generator().manual_seed(3))
    assert left_RD.unique().tolist() == pytest.approx([0.0, 1.0 / 0.75])
    assert left_RD.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(left_RD, learner.trainer._thinned(ones_RD, torch.Generator().manual_seed(4)))


# -- the algorithms that it moves by -------------------------------------------------------------------------------

OPTIMISERS = [
    *[("adagrad", dense) for dense in ("adamw", "adam", "sgd", "adagrad", "rmsprop", "lion")],
    *[(row, "adamw") for row in ("sgd", "adam", "rmsprop")],
]


@pytest.mark.parametrize(("row", "dense"), OPTIMISERS)
def test_law_5_every_algorithm_of_the_settings_moves_all_parts_and_resumes(row: str, dense: str) -> None:
    chosen = settings(row_optimiser=row, dense_optimiser=dense, row_rate=0.002, dense_rate=0.0001)
    learner = Learner(chosen)
    learner.update_catalogue(attributes(20))
    before = learner.state()
    learn(learner, cycle(2 * BATCH))
    state = learner.state()
    moved = [
        *[f"network.{table}.weight" for table in ("item_in", "item_out", "user_in", "attribute_in", "attribute_out")],
        *[f"trainer.{part}.parameters" for part in ("encoder", "gate")],
    ]
    assert set(moved) <= set(differing(before, state))
    assert learner.num_skipped == 0

    resumed = Learner(chosen)
    resumed.load_state(state)
    for one in (learner, resumed):
        learn(one, cycle(2 * BATCH, seed=1))
    assert differing(learner.state(), resumed.state()) == []


def test_algorithms_differ() -> None:
    states = {}
    for row, dense in OPTIMISERS:
        learner = Learner(settings(row_optimiser=row, dense_optimiser=dense))
        learn(learner, cycle(2 * BATCH))
        states[row, dense] = learner.network.item_out.weight_IW[:21].sum().item()
    assert len(set(states.values())) == len(OPTIMISERS)


# -- the precision that the encoder computes in --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "precision"),
    [(name, precision) for name in sorted(ENCODERS) for precision in ("bfloat16", "float16") if name != "lstm"]
    + [("lstm", "bfloat16")],
)
def test_reduced_precision_learns_nearly_the_same_without_waiting(encoder: str, precision: str) -> None:
    losses = []
    for chosen in ("float32", precision):
        learner = Learner(small_settings(model={"encoder": encoder}, learning={"precision": chosen}))
        learn(learner, cycle(BATCH))
        moments = learner.enter(cycle(BATCH, seed=1))
        look = learner.ranker.look(moments)
        with no_waiting():
            outcome = learner.trainer.step(moments, look, learner.batch)
        assert bool(outcome.sound)
        losses.append(outcome.loss.item())
    assert {outcome.loss.dtype, learner.network.item_in.weight_IW.dtype} == {torch.float32}
    assert {parameter.dtype for parameter in learner.network.encoder.parameters()} <= {torch.float32}
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    if encoder not in ("fm", "mf", "ncf", "none"):  # no matrix product makes their query
        assert losses[0] != losses[1]


def test_what_the_cpu_has_no_kernel_for_is_refused_at_the_start() -> None:
    chosen = small_settings(model={"encoder": "lstm"}, learning={"precision": "float16"})
    with pytest.raises(SettingsError, match=r"learning\.precision = 'float16' .*allowed .*float32, bfloat16"):
        Learner(chosen)


def test_law_8_a_step_in_reduced_precision_runs_on_the_configured_device() -> None:
    learner = Learner(small_settings(worker={"device": "meta"}, learning={"precision": "float16"}))
    with OneDevice():
        for batch in batches(rich(128)):
            moments = learner.enter(batch)
            outcome = learner.trainer.step(moments, learner.ranker.look(moments), learner.batch)
            learner.memory.update(moments)
    assert outcome.residual_loss.device.type == learner.trainer.state()["loss_scale"]["scale"].device.type == "meta"


def test_the_loss_scale_follows_the_steps_and_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(precision="float16", loss_scale_growth_steps=2)

    def scale(learner: Learner) -> float:
        return float(learner.trainer.state()["loss_scale"]["scale"])

    learner = Learner(chosen)
    assert scale(learner) == START
    softmax_loss = trainer.softmax_loss
    monkeypatch.setattr(trainer, "softmax_loss", lambda *arguments: softmax_loss(*arguments) * math.inf)
    learn(learner, cycle(2 * BATCH))
    assert (scale(learner), learner.num_skipped) == (START / 4, 2)
    monkeypatch.undo()
    learn(learner, cycle(BATCH, seed=1))
    assert scale(learner) == START / 4
    resumed = Learner(chosen)
    resumed.load_state(learner.state())
    for one in (learner, resumed):
        learn(one, cycle(BATCH, seed=2))
        assert (scale(one), one.num_skipped) == (START / 2, 2)
    assert differing(learner.state(), resumed.state()) == []
