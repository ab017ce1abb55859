"""Tasks in the learner: they leave the list alone until they are given a weight, and then they move it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from stream_rec.durability.snapshots import SnapshotStore
from stream_rec.learning.learner import Learner
from stream_rec.models.tasks import TaskHeads
from stream_rec.ranking.ranker import shared_catalogue
from stream_rec.records import Event
from stream_rec.state.moments import Moments
from tests.stream_rec.device_guards import OneDevice, no_waiting
from tests.stream_rec.tiny_worlds import (
    BATCH,
    START_MS,
    attributes,
    batches,
    cycle,
    differing,
    learn,
    learn_and_list,
    rich,
    small_settings,
)

TASKS: dict[str, dict[str, Any]] = {"cart": {}, "stars": {"kind": "value", "types": ["click"]}}


def learner_with(tasks: dict[str, dict[str, Any]], device: str = "cpu", **learning: Any) -> Learner:
    return Learner(small_settings(worker={"device": device}, learning={"tasks": tasks} | learning))


def rated(num_events: int, seed: int = 0) -> list[Event]:
    """Of ``rich``, clicks with stars."""
    rng = random.Random(seed)
    return [
        Event(e.user_id, e.item_id, e.type, e.timestamp_ms, value=rng.randrange(1, 6), context=e.context)
        for e in rich(num_events, seed=seed)
    ]


def promises(learner: Learner, moments: Moments) -> Tensor:
    """[B, T] of the items that the events were on, by the model as it stands."""
    vectors_ID = shared_catalogue(learner.memory, learner.network).vectors_ID
    heads = learner.network.tasks
    assert heads is not None
    with torch.no_grad():
        query_BD = learner.network.encoder(learner.network.inputs(moments, vectors_ID, moments.history.items_BN))
        return heads.promise(
            heads(query_BD, vectors_ID[moments.item_B][:, None], moments.user_B, moments.item_B[:, None])
        )[:, 0]


# -- what is not asked for ---------------------------------------------------------------------------------------


def test_without_a_share_and_a_weight_everything_else_is_the_same_bit_for_bit() -> None:
    plain, with_tasks = learner_with({}), learner_with(TASKS, task_share=0.0)
    lists = [learn_and_list(learner, rated(512)) for learner in (plain, with_tasks)]
    assert lists[0] == lists[1]
    assert {name.split(".")[1] for name in differing(plain.state(), with_tasks.state())} == {"tasks"}
    assert set(with_tasks.task_losses) == {"cart", "stars"}
    assert plain.task_losses == {}
    assert plain.trainer.state()["tasks"] == {}


def test_a_share_reaches_encoder_and_rows() -> None:
    apart, shared = learner_with(TASKS, task_share=0.0), learner_with(TASKS, task_share=1.0)
    for learner in (apart, shared):
        learn(learner, rated(3 * BATCH))
    changed = differing(apart.state(), shared.state())
    assert {"network.item_in.weight", "network.user_in.weight", "trainer.encoder.parameters"} <= set(changed)
    assert "trainer.gate.parameters" not in changed


# -- laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["heads", "balance"])
def test_a_poisoned_gradient_leaves_the_whole_step_out(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_with(TASKS)
    learn(learner, rated(2 * BATCH))
    moments = learner.enter(rated(BATCH, seed=1))
    before = learner.state()
    grad = torch.autograd.grad

    def poisoned(loss: Tensor, parameters: Sequence[Tensor], **options: Any) -> list[Tensor]:
        gradients = list(grad(loss, parameters, **options))
        if len(gradients) > 20:  # the first stage's, not the second's
            gradients[-1 if part == "balance" else -3].reshape(-1)[-1] = math.nan
        return gradients

    monkeypatch.setattr(torch.autograd, "grad", poisoned)
    assert math.isnan(learner.learn(moments))
    monkeypatch.undo()
    learnt = ("network.", "trainer.encoder.", "trainer.gate.", "trainer.tasks.optimiser.")
    assert [name for name in differing(before, learner.state()) if name.startswith(learnt)] == []
    assert math.isfinite(learner.learn(learner.enter(rated(BATCH, seed=2))))
    assert "trainer.tasks.optimiser.parameters" in differing(before, learner.state())


@pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])
def test_law_8_a_step_with_tasks_runs_on_the_configured_device(full_softmax_max_items: int) -> None:
    weighted = {name: task | {"weight": 1.0} for name, task in TASKS.items()}
    learner = learner_with(weighted, "meta", full_softmax_max_items=full_softmax_max_items)
    with OneDevice():
        for batch in batches(rated(2 * BATCH)):
            moments = learner.enter(batch)
            look = learner.ranker.look(moments)
            ranked = learner.ranker.order(look, moments, 5)
            outcome = learner.trainer.step(moments, look, learner.batch)
            learner.memory.update(moments)
    results = [ranked.scores_BK, outcome.task_losses_T, *learner.trainer.state()["tasks"]["scales"].values()]
    assert {tensor.device.type for tensor in results} == {"meta"}


@pytest.mark.parametrize("full_softmax_max_items", [1_000, 0], ids=["full", "sampled"])
def test_law_7_tasks_never_make_the_loop_wait(full_softmax_max_items: int) -> None:
    weighted = {name: task | {"weight": 1.0} for name, task in TASKS.items()}
    learner = learner_with(weighted, full_softmax_max_items=full_softmax_max_items)
    for batch in batches(rated(3 * BATCH)):
        moments = learner.enter(batch)
        with no_waiting():
            look = learner.ranker.look(moments)
            learner.ranker.order(look, moments, 5)
            outcome = learner.trainer.step(moments, look, learner.batch)
            learner.memory.update(moments)
        learner.trainer.sampler.observe(moments.items[moments.counts])
        assert bool(outcome.sound)


def test_the_item_that_was_taken_is_found_in_a_sample_as_among_all() -> None:
    """A task's first loss is of its average; the second shows whose vector it has been learnt on."""
    losses = []
    for full_softmax_max_items in (1_000, 0):
        learner = learner_with(TASKS, full_softmax_max_items=full_softmax_max_items, task_share=0.0, task_rate=0.05)
        learner.update_catalogue(attributes(40))
        learn(learner, rated(BATCH))
        learn(learner, rated(BATCH))
        losses.append(learner.task_losses)
    # The list itself learns from other negatives, so the bodies part after the first step, by little.
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_law_5_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Through the disk, as after a restart."""
    whole = learner_with(TASKS)
    learn(whole, rated(3 * BATCH))
    store = SnapshotStore(small_settings(snapshot={"directory": tmp_path}))
    store.write(whole.batch, [], {"learner": whole.state()})
    snapshot = store.newest()
    assert snapshot is not None
    again = learner_with(TASKS)
    again.load_state(snapshot.state["learner"])
    for learner in (whole, again):
        learn(learner, rated(2 * BATCH, seed=1))
    assert differing(whole.state(), again.state()) == []
    assert whole.task_losses == again.task_losses


def test_tasks_can_be_changed_between_two_starts() -> None:
    """All that was learnt besides stays; of other tasks the heads begin anew, and another weight is no other task."""
    state = learner_with(TASKS)
    learn(state, rated(2 * BATCH))
    saved = state.state()
    weighted = learner_with({name: task | {"weight": 2.0} for name, task in TASKS.items()})
    weighted.load_state(saved)
    assert differing(saved["trainer"]["tasks"], weighted.state()["trainer"]["tasks"]) == []
    others: list[dict[str, dict[str, Any]]] = [
        {},
        {"cart": {}},
        {"cart": {"types": ["click"]}, "stars": TASKS["stars"]},
    ]
    for tasks in others:
        changed = learner_with(tasks)
        fresh = changed.trainer.state()["tasks"]
        changed.load_state(saved)
        assert [n for n in differing(fresh, changed.trainer.state()["tasks"]) if n[:5] not in ("items", "users")] == []
        if tasks:
            assert changed.trainer.state()["tasks"]["items"]["sums"].abs().sum() == 0.0
        assert differing(saved["network"], changed.state()["network"]) == []
    before_there_were_any = learner_with({})
    learn(before_there_were_any, rated(BATCH))
    late = learner_with(TASKS)
    late.load_state(before_there_were_any.state())
    learn(late, rated(BATCH, seed=1))
    assert late.num_skipped == 0


def test_rows_that_get_new_owners_begin_anew() -> None:
    learner = Learner(small_settings(state={"max_items": 12, "max_users": 10}, learning={"tasks": TASKS}))
    heads = learner.network.tasks
    assert heads is not None
    for batch in batches(rated(4 * BATCH), 16):
        moments = learner.enter(batch)
        fresh = moments.new_users
        assert heads.users.state(11)["counts"][fresh].abs().sum() == 0.0
        learner.learn(moments)
    assert learner.memory.items.num_evicted > 0
    counts_IT = heads.items.state(13)["counts"]
    before = {id_: learner.memory.items.row(id_) for id_ in (f"i{n}" for n in range(40))}
    new_id = next(id_ for id_, row in before.items() if row == 0)
    learner.enter([Event("u1", new_id, "cart", START_MS + 10**9)])
    row = learner.memory.items.row(new_id)
    assert counts_IT[row].sum() > 0.0
    assert heads.items.state(13)["counts"][row].tolist() == [0.0, 0.0]


def test_losses_are_figures_and_a_task_without_events_has_none() -> None:
    learner = learner_with(TASKS | {"never": {"kind": "value"}})
    learn(learner, rated(BATCH))
    assert math.isnan(learner.task_losses["never"])
    assert learner.task_losses["cart"] == pytest.approx(1.0, abs=0.05)  # nothing but the average is known yet
    assert learner.task_losses["stars"] == pytest.approx(1.0, abs=0.05)
    learn(learner, [event for event in rich(400) if event.type == "impression"][:BATCH])
    assert all(math.isnan(loss) for loss in learner.task_losses.values())
    assert learner.num_skipped == 0


def test_heads_follow_the_encoders_drift_in_their_rate() -> None:
    assert "tasks" not in learner_with({}).rates()
    learner = learner_with(TASKS, task_rate=0.02, calm_factor=0.5, calm_half_life_events=BATCH, warmup_steps=0)
    learn(learner, cycle(BATCH))
    rates = learner.rates()
    assert rates["tasks"] / 0.02 == pytest.approx(rates["encoder"] / 0.001)
    assert rates["tasks"] == pytest.approx(0.02 * 0.75)


# -- a task of one event in a thousand ---------------------------------------------------------------------------

NUM_RARE = 16_000
BUYERS, WANTED = ("u0", "u1"), "i7"


def rare_world(num_events: int, num_users: int = 40, num_items: int = 25) -> list[Event]:
    """Everybody walks round the same ring; two of the 40 buy every second time that they come to one of the 25 items.

    That is one event in a thousand. The list needs to know nothing of users here: who buys is the task's own affair.
    """
    rng = random.Random(0)
    place = [rng.randrange(num_items) for _ in range(num_users)]
    events = []
    for n in range(num_events):
        user = rng.randrange(num_users)
        place[user] = (place[user] + 1) % num_items
        event = Event(f"u{user}", f"i{place[user]}", "click", START_MS + 1000 * n)
        is_bought = chance_of(event) > rng.random()
        events.append(Event(event.user_id, event.item_id, "purchase" if is_bought else "click", event.timestamp_ms))
    return events


def chance_of(event: Event) -> float:
    return 0.5 if event.user_id in BUYERS and event.item_id == WANTED else 0.0


@cache
def rare_task(balance: Literal["uncertainty", "sum"], counting: bool = False) -> tuple[float, float]:
    """After the stream, of events to come: log-loss expected of the promised chances, 1 being that of the average
    alone; and how often a purchase is held for likelier than the same item taken by somebody who does not buy.

    Without counting only what has reached the body can tell: averages of items and users would do by themselves.
    """
    settings = small_settings(
        learning={"tasks": {"purchase": {}}, "task_balance": balance},
        ranking={"num_candidates": 16},
        model={"dimension": 16, "num_layers": 1, "history_length": 4},
    )
    learner = Learner(settings)
    events = rare_world(NUM_RARE + 4_000)
    assert 16 <= sum(event.type == "purchase" for event in events[:NUM_RARE]) <= 24
    with pytest.MonkeyPatch.context() as patch:
        if not counting:
            patch.setattr(TaskHeads, "observe", lambda *_: None)
        learn(learner, events[:NUM_RARE], size=250)
    to_come = events[NUM_RARE:]
    said_B = promises(learner, learner.enter(to_come))[:, 0].double()
    true_B = torch.tensor([chance_of(event) for event in to_come], dtype=torch.float64)
    same_item_B = torch.tensor([event.item_id == WANTED for event in to_come])

    def loss(chance_B: Tensor) -> float:
        return -(torch.xlogy(true_B, chance_B) + torch.xlogy(1 - true_B, 1 - chance_B)).mean().item()

    bought_P, not_N = said_B[true_B > 0], said_B[same_item_B & (true_B == 0)]
    auc = (bought_P[:, None] > not_N).double().mean().item()
    return loss(said_B) / loss(true_B.mean().expand_as(true_B)), auc


def test_a_task_of_one_event_in_a_thousand_is_learnt_beside_the_list() -> None:
    """From 16 to 24 purchases in all; nobody could come below .18, since a coin decides."""
    loss, auc = rare_task("uncertainty")
    assert loss < 0.75
    assert auc > 0.85


def test_averages_know_it_sooner() -> None:
    loss, auc = rare_task("uncertainty", counting=True)
    assert loss < 0.9 * rare_task("uncertainty")[0]
    assert auc > 0.95


def test_added_up_as_it_comes_it_starves() -> None:
    """It still finds the item, which the body knows by the list; of the people it learns little."""
    loss, auc = rare_task("sum")
    assert loss > 1.08 * rare_task("uncertainty")[0]
    assert auc < 0.75


# -- what lists are ordered by -----------------------------------------------------------------------------------


def bait_and_goods(num_events: int, num_users: int = 40) -> list[Event]:
    """Ten items that everybody looks at and nobody buys, and ten that are bought, each a third as often looked for."""
    rng = random.Random(0)
    events = []
    for n in range(num_events):
        is_bait = rng.random() < 0.75
        item = rng.randrange(10) + (0 if is_bait else 10)
        kind = "click" if is_bait else "purchase"
        events.append(Event(f"u{rng.randrange(num_users)}", f"i{item}", kind, START_MS + 1000 * n))
    return events


def ndcg_of_purchases(weight: float) -> tuple[float, float]:
    """Progressive NDCG@10 of purchases and of clicks, over the second half of the stream."""
    learner = learner_with({"purchase": {"weight": weight}})
    events = bait_and_goods(40 * BATCH)
    gains: dict[str, list[float]] = {"purchase": [], "click": []}
    for event, ranked in list(zip(events, learn_and_list(learner, events), strict=True))[20 * BATCH :]:
        place = ranked.index(event.item_id) if event.item_id in ranked else None
        gains[event.type].append(0.0 if place is None else 1 / math.log2(place + 2))
    purchase, click = (sum(of) / len(of) for of in gains.values())
    return purchase, click


def test_a_weight_on_purchases_moves_up_what_is_bought() -> None:
    without, clicks_without = ndcg_of_purchases(0.0)
    weighted, clicks_weighted = ndcg_of_purchases(20.0)
    assert without < 0.1
    assert weighted > 0.35
    assert clicks_weighted < clicks_without


def test_scores_say_what_an_item_is_worth_beside_how_likely_it_is() -> None:
    plain, weighted = (learner_with({"purchase": {"weight": weight}}) for weight in (0.0, 20.0))
    for learner in (plain, weighted):
        learn(learner, bait_and_goods(10 * BATCH))
    looking = [Event("u1", "i1", "click", START_MS + 10**6)]
    moments = weighted.memory.looking(looking)
    look = weighted.ranker.look(moments)
    assert plain.ranker.look(plain.memory.looking(looking)).log_worth_BK is None
    assert look.log_worth_BK is not None
    assert 0.0 < look.log_worth_BK.min() < 1.0 < 2.0 < look.log_worth_BK.max() < math.log(21.0)
    # Both have learnt the same, so that a score differs by what the item is worth.
    before = {item.item_id: item.score for item in plain.rank(looking)[0]}
    worth = dict(zip(look.rows_BK[0].tolist(), look.log_worth_BK[0].tolist(), strict=True))
    after = weighted.rank(looking)[0]
    both = [item for item in after if item.item_id in before]
    for item in both:
        row = weighted.memory.items.row(item.item_id)
        assert item.score - before[item.item_id] == pytest.approx(worth[row], abs=2e-3)
