"""Lists against a brute-force ranking in numpy, what may never be in one, and law 1."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from stream_rec.learning.learner import Learner
from stream_rec.models.evidence import gather_evidence
from stream_rec.models.mixture import FLOOR
from stream_rec.ranking import ranker
from stream_rec.ranking.ranker import REASONS, Ranked
from stream_rec.records import Event, Item, ItemUpdate
from stream_rec.state.moments import Moments
from tests.stream_rec.tiny_worlds import START_MS, attributes, batches, cycle, learn, rich, small_settings, strides

NEVER = frozenset({"impression"})  # event types that weigh 0
Array = np.ndarray[Any, Any]


def seasoned(events: Sequence[Event], *, weights: Sequence[float] = (0.0, 0.5, 1.0), **sections: Any) -> Learner:
    """A learner that has learnt from these and gives the network these weights, by class of history."""
    learner = Learner(small_settings(**sections))
    learner.update_catalogue(attributes(40, unavailable=[3, 5]))
    learn(learner, events)
    candidates = (0.0, 0.2, 0.5, 1.0)
    learner.blend.load_state({"ndcg": torch.tensor([[float(c == w) for c in candidates] for w in weights])})
    return learner


def item_vectors(learner: Learner, side: str) -> Array:
    """Own row plus the mean over the attributes that the item has, in double precision."""
    num_rows = learner.memory.num_item_rows
    own = getattr(learner.network, f"item_{side}").weight_IW[:num_rows].double().numpy()
    table = getattr(learner.network, f"attribute_{side}").weight_IW.double().numpy()
    vectors = own.copy()
    for row, features in enumerate(learner.memory.catalogue.features_IA[:num_rows].tolist()):
        used = [table[feature] for feature in features if feature]
        if used:
            vectors[row] += np.mean(used, axis=0)
    return vectors


def brute_force_scores(learner: Learner, moments: Moments, weights: Sequence[float]) -> Array:
    """[B, I] scores; -inf for what may not be listed. The mixture is the model's own: its tests are elsewhere."""
    memory, network = learner.memory, learner.network
    allowed = memory.recommendable()
    evidence = gather_evidence(memory, moments)
    with torch.no_grad():
        probabilities = network.mixture.probabilities(
            network.mixture.gate(evidence),
            evidence,
            memory.statistics.popularity.counts_HI[:, : memory.num_item_rows],
        )
        vectors = torch.from_numpy(item_vectors(learner, "in")).float()
        queries = network.encoder(network.inputs(moments, vectors, moments.history.items_BN)).double().numpy()
    outputs = item_vectors(learner, "out")
    logits = queries @ outputs[:, :-1].T + outputs[:, -1]
    listed = ~evidence.out_BI.numpy()
    logits -= (logits * listed).sum(1, keepdims=True) / listed.sum(1, keepdims=True)
    lengths = moments.history.lengths_B.numpy()
    weight_of = np.array([weights[int(length > 0) + int(length > 4)] for length in lengths])
    scores = np.log(np.maximum(probabilities.double().numpy(), FLOOR)) + weight_of[:, None] * logits
    scores[:, ~allowed.numpy()] = -np.inf
    if moments.excluded is not None:
        scores[moments.excluded[0].numpy(), moments.excluded[1].numpy()] = -np.inf
    return scores


@pytest.mark.parametrize("exclude_seen", [True, False], ids=["novel", "repeat"])
def test_lists_equal_a_brute_force_ranking(exclude_seen: bool) -> None:
    weights = (0.2, 0.5, 1.0)
    events = [*strides(400), *rich(300)]
    learner = seasoned(events, weights=weights, ranking={"exclude_seen": exclude_seen, "second_stage": False})
    strangers = rich(40, num_users=12, seed=1)
    moments = learner.enter(
        [*rich(364)[300:], *(msgspec.structs.replace(e, user_id=f"new-{e.user_id}") for e in strangers)]
    )
    assert set(((moments.history.lengths_B > 0).long() + (moments.history.lengths_B > 4)).tolist()) == {0, 1, 2}
    ranked = learner.ranker.rank(moments, 10)
    expected = brute_force_scores(learner, moments, weights)
    for index in range(len(moments)):
        rows, scores = ranked.rows_BK[index].numpy(), ranked.scores_BK[index].double().numpy()
        finite = np.isfinite(scores)
        assert len(set(rows[finite])) == finite.sum()
        best = np.sort(expected[index])[::-1][:10]
        np.testing.assert_allclose(scores[finite], best[np.isfinite(best)], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(expected[index, rows[finite]], scores[finite], rtol=1e-4, atol=1e-4)


def test_blocks_of_moments_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = seasoned(rich(300), ranking={"exclude_seen": True})
    moments = learner.enter(rich(364)[300:])
    whole = learner.ranker.rank(moments, 10)
    for num_scores in (1, 7 * learner.memory.num_item_rows, 63 * learner.memory.num_item_rows):
        monkeypatch.setattr(ranker, "MAX_SCORES", num_scores)
        blocks = learner.ranker.rank(moments, 10)
        assert torch.equal(blocks.rows_BK, whole.rows_BK)
        assert torch.equal(blocks.reason_BK, whole.reason_BK)
        assert torch.allclose(blocks.scores_BK, whole.scores_BK, rtol=1e-5, atol=1e-5)


# -- what may never be in a list -----------------------------------------------------------------------------------


def test_what_a_user_has_had_is_never_listed_where_seen_items_are_left_out() -> None:
    """Nor what nobody had touched before the event; items that the catalogue calls unavailable never at all."""
    learner = Learner(small_settings(ranking={"exclude_seen": True, "unseen_items": False, "list_length": 40}))
    learner.update_catalogue(attributes(40, unavailable=[3, 5]))
    had: dict[str, set[str]] = defaultdict(set)
    touched: set[str] = set()
    num_listed = 0
    for batch in batches(rich(400, num_users=60)):
        moments = learner.enter(batch)
        for event, ranked in zip(batch, learner.rank_entered(moments), strict=True):
            allowed = touched - had[event.user_id] - {"i3", "i5"}
            assert set(ranked) <= allowed
            assert len(ranked) == len(set(ranked)) == len(allowed)
            num_listed += len(ranked)
            if event.type not in NEVER:
                had[event.user_id].add(event.item_id)
                touched.add(event.item_id)
        learner.learn(moments)
        newest = list({event.user_id: event for event in batch}.values())
        for event, items in zip(newest, learner.rank(newest), strict=True):
            assert {item.item_id for item in items} == touched - had[event.user_id] - {"i3", "i5"}
    assert num_listed > 1_000


def test_retired_items_leave_the_lists_and_their_rows_come_back_under_the_new_name() -> None:
    learner = Learner(small_settings(state={"max_items": 12}, ranking={"list_length": 12}))
    learn(learner, cycle(200, num_items=12))
    newcomers = [Event("u1", f"new{n}", "click", START_MS + 10**6 + n) for n in range(4)]
    learn(learner, newcomers, size=1)
    (ranked,) = learner.rank(newcomers[-1:])
    listed = {item.item_id for item in ranked}
    assert listed == {id_ for id_ in (f"i{n}" for n in range(12)) if learner.memory.items.row(id_)} | {
        event.item_id for event in newcomers
    }
    assert len(listed) == 12


def test_an_item_comes_and_goes_with_its_availability() -> None:
    learner = Learner(small_settings(ranking={"list_length": 30}))
    learner.update_catalogue(attributes(20))
    learn(learner, cycle(100))
    event = cycle(1)[0]

    def listed() -> set[str]:
        return {item.item_id for item in learner.rank([event])[0]}

    everything = {f"i{n}" for n in range(20)}
    assert listed() == everything
    learner.update_catalogue([ItemUpdate("i7", Item("i7", available=False)), ItemUpdate("i8", None)])
    assert listed() == everything - {"i7", "i8"}
    learner.update_catalogue([ItemUpdate("i7", Item("i7")), ItemUpdate("i8", Item("i8"))])
    assert listed() == everything


@pytest.mark.parametrize("unseen_items", [True, False])
def test_items_that_nobody_has_touched_are_listed_by_setting(unseen_items: bool) -> None:
    learner = Learner(small_settings(ranking={"list_length": 30, "unseen_items": unseen_items}))
    learner.update_catalogue(attributes(20))
    learn(learner, [Event("u", "i1", "click", START_MS), Event("v", "i2", "click", START_MS)])
    (ranked,) = learner.rank([Event("w", "i1", "click", START_MS)])
    assert len(ranked) == (20 if unseen_items else 2)
    assert {item.item_id for item in ranked[:2]} == {"i1", "i2"}  # what was touched stands first


# -- the form of a list --------------------------------------------------------------------------------------------


def test_fewer_items_than_places_give_a_shorter_list() -> None:
    learner = Learner(small_settings())
    events = [Event("u", f"i{n}", "click", START_MS + n) for n in range(3)]
    assert learner.rank(events[:1]) == [[]]
    learn(learner, events)
    (ranked,) = learner.rank(events[-1:])
    assert sorted(item.item_id for item in ranked) == ["i0", "i1", "i2"]


def test_lists_are_as_long_as_set_ranked_from_1_best_first_with_a_known_reason() -> None:
    learner = seasoned(strides(1_000), ranking={"list_length": 7})
    newest = list({event.user_id: event for event in strides(1_000)}.values())
    lists = learner.rank(newest)
    assert len(lists) == len(newest)
    for ranked in lists:
        assert [item.rank for item in ranked] == [1, 2, 3, 4, 5, 6, 7]
        assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)
        assert len({item.item_id for item in ranked}) == 7
        assert all(len(item.reasons) == 1 and item.reasons[0] in REASONS for item in ranked)


def test_reasons_say_what_speaks_for_the_item() -> None:
    learner = seasoned(cycle(640), weights=(0.0, 0.0, 0.0))
    by_transition = learner.rank([cycle(640)[-1]])[0][0]
    assert by_transition.reasons == ["follows your last items"]
    stranger = learner.rank([Event("stranger", "i0", "click", START_MS + 640_000)])[0][0]
    assert stranger.reasons == ["popular now"]
    # A logit that lifts an item far above the others is named, wherever counting would have put it.
    learner = seasoned(cycle(640), weights=(1.0, 1.0, 1.0))
    learner.network.item_out.weight_IW[learner.memory.items.row("i9"), -1] = 30.0
    favourite = learner.rank([Event("stranger", "i0", "click", START_MS + 640_000)])[0][0]
    assert (favourite.item_id, favourite.reasons) == ("i9", ["fits your history"])


def test_a_user_without_history_gets_what_is_popular_with_people_of_his_kind() -> None:
    """Phones take i0 to i4, desks i5 to i9, everybody only once: nothing but the device tells them apart."""

    def seen_by(number: int, device: str) -> Event:
        item = number * 7 % 5 + (5 if device == "desk" else 0)
        return Event(f"u{number}", f"i{item}", "click", START_MS + 1000 * number, context={"device": device})

    learner = Learner(small_settings(state={"max_users": 2_000}))
    learn(learner, [seen_by(number, ("phone", "desk")[number % 2]) for number in range(1_024)])
    for device, own in (("phone", {f"i{n}" for n in range(5)}), ("desk", {f"i{n}" for n in range(5, 10)})):
        (ranked,) = learner.rank([seen_by(5_000, device)])
        assert {item.item_id for item in ranked[:5]} == own
        assert ranked[0].reasons == ["popular with people like you"]


# -- law 1 ---------------------------------------------------------------------------------------------------------


def check_same_list(left: Ranked, right: Ranked, index: int, tolerance: float) -> None:
    """Scores agree, and so do the items wherever more than the tolerance lies between a place and its neighbours."""
    assert torch.allclose(left.scores_BK[index], right.scores_BK[index], rtol=0, atol=tolerance)
    is_gap = left.scores_BK[index].diff().abs() > 2 * tolerance
    is_clear = torch.cat([is_gap[:1], is_gap[1:] & is_gap[:-1]])
    assert is_clear.sum() >= 5
    assert torch.equal(left.rows_BK[index, :-1][is_clear], right.rows_BK[index, :-1][is_clear])


@pytest.mark.parametrize("exclude_seen", [True, False], ids=["novel", "repeat"])
@pytest.mark.parametrize(("num_learnt", "tolerance"), [(448, 1e-5), (192, 1e-5)], ids=["known items", "new items"])
def test_law_1_score_before_learning(exclude_seen: bool, num_learnt: int, tolerance: float) -> None:
    """The list of an event is the one that a learner gives who has never seen it, nor anything after it.

    Items that come new in the batch enlarge the catalogue for the whole of it: what an item has for being one of so
    many shrinks by a hair, for all alike.
    """
    settings = small_settings(ranking={"exclude_seen": exclude_seen})
    first = Learner(settings)
    events = [event for event in rich(900, num_users=50) if event.type not in NEVER]
    learn(first, events[:num_learnt])
    state, batch = first.state(), events[num_learnt : num_learnt + 64]
    assert any(not first.memory.items.row(event.item_id) for event in batch) == (num_learnt == 192)
    moments = first.enter(batch)
    entered = first.ranker.rank(moments, 10)
    for index in (0, 1, 7, 30, 63):
        before = Learner(settings)
        before.load_state(state)
        prefix = before.enter(batch[: index + 1])
        check_same_list(before.ranker.rank(prefix, 10), entered, index, tolerance)
    # The very first moment is also what a look gives before anything of the batch is entered.
    before = Learner(settings)
    before.load_state(state)
    check_same_list(before.ranker.rank(before.memory.looking(batch[:1]), 10), entered, 0, tolerance)
    # And learning does change what is said of the same moments, or the above would prove nothing.
    first.trainer.step(moments, first.ranker.look(moments), first.batch)
    learnt = first.ranker.rank(moments, 10)
    assert not torch.allclose(learnt.scores_BK, entered.scores_BK, rtol=0, atol=tolerance)
