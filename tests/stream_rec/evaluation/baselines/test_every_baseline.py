"""One suite that every baseline of the registry passes: a tiny world with a known answer, bounds, exclusion, state."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from stream_rec.evaluation.baselines.base import Baseline, OneByOne, Player, Turn
from stream_rec.evaluation.baselines.gru4rec import Gru4Rec
from stream_rec.evaluation.baselines.registry import BASELINES, FAMILIES, NEURAL, Bounds, player_of
from stream_rec.evaluation.baselines.sasrec import SasRec
from stream_rec.records import Event
from tests.stream_rec.tiny_worlds import START_MS, batches, checkerboard, rich

WIDE = Bounds(max_users=1_000, max_items=1_000)
SMALL_BATCH = 8
SMALL = {
    "gru4rec": lambda bounds, seed: Gru4Rec(
        **bounds._asdict(), seed=seed, dimension=16, length=5, batch_size=SMALL_BATCH, rate=0.01
    ),
    "sasrec": lambda bounds, seed: SasRec(
        **bounds._asdict(), seed=seed, dimension=16, length=5, batch_size=SMALL_BATCH, rate=0.01
    ),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # such small steps wait for each other longer than they compute
    yield
    torch.set_num_threads(before)


def make(name: str, bounds: Bounds = WIDE, seed: int = 1) -> Baseline:
    return SMALL.get(name, BASELINES[name].make)(bounds, seed)


def player(baseline: Baseline) -> Player:
    return baseline if isinstance(baseline, Player) else OneByOne(baseline)


def turns(events: Sequence[Event], exclude: Callable[[Event], frozenset[str]] | None = None) -> list[Turn]:
    return [Turn(event, 1.0, exclude(event) if exclude else frozenset()) for event in events]


def play(baseline: Baseline, events: Sequence[Event], k: int = 10) -> list[list[str]]:
    going = player(baseline)
    return [items for batch in batches(events, SMALL_BATCH) for items in going.play(turns(batch), k)]


def teach(baseline: Baseline, events: Sequence[Event]) -> None:
    for event in events:
        baseline.update(event, 1.0)


def plain(state: object) -> object:
    """A state that == compares, exact to the bit."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    if isinstance(state, torch.Tensor):
        state = state.detach().numpy()
    if isinstance(state, np.ndarray):
        return str(state.dtype), state.shape, state.tobytes()
    return state


def parity(events: Sequence[Event], lists: Sequence[Sequence[str]]) -> float:
    """Share of the listed items that are of the user's own colour, over the last fifth."""
    pairs = list(zip(events, lists, strict=True))[-len(events) // 5 :]
    same = [int(event.user_id[1:]) % 2 == int(item[1:]) % 2 for event, items in pairs for item in items[:5]]
    return sum(same) / len(same)


def with_a_star(num_events: int) -> list[Event]:
    """Every third event is on one item, by whomever: what is popular is plain to see."""
    return [
        Event(event.user_id, "i0" if number % 3 == 0 else event.item_id, "click", event.timestamp_ms)
        for number, event in enumerate(checkerboard(num_events))
    ]


def walks(num_events: int, *, num_items: int = 12, length: int = 5, num_at_once: int = 20) -> list[Event]:
    """Short walks round one ring, each by somebody new: after item i comes i + 1, and nobody comes back.

    Not ``cycle``: to what counts who took what, and in no order, the item before is as near as the one after.
    """
    rng = random.Random(0)
    walking: list[list[int]] = []  # user, place, steps left
    num_users, events = 0, []
    for n in range(num_events):
        if len(walking) < num_at_once:
            walking.append([num_users, rng.randrange(num_items), length])
            num_users += 1
        walk = rng.choice(walking)
        events.append(Event(f"u{walk[0]}", f"i{walk[1]}", "click", START_MS + 10_000 * n))
        walk[1:] = (walk[1] + 1) % num_items, walk[2] - 1
        if not walk[2]:
            walking.remove(walk)
    return events


def play_walks(baseline: Baseline, events: Sequence[Event]) -> float:
    """HR@1 over the last fifth, of those who have taken two steps, which tell forth from back.

    What somebody has had is left out of his lists.
    """
    had: dict[str, set[str]] = {}
    found = []
    for batch in batches(events, SMALL_BATCH):
        played = []
        for event in batch:
            played.append(Turn(event, 1.0, frozenset(had.setdefault(event.user_id, set()))))
            had[event.user_id].add(event.item_id)
        lists = player(baseline).play(played, 1)
        found += [
            (len(turn.exclude) > 1, [turn.event.item_id] == items) for turn, items in zip(played, lists, strict=True)
        ]
    last = [is_hit for is_on_its_way, is_hit in found[-len(found) // 5 :] if is_on_its_way]
    return sum(last) / len(last)


SEQUENTIAL = ("transitions", "rules", "item-knn", "session-knn", "gru4rec", "sasrec")
POPULAR = ("popularity", "popularity-1d", "popularity-3h", "popularity-15min", "bpr-mf-fast")
PERSONAL = ("isgd", "bpr-mf", "own-repeats", "item-knn", "biased-mf")


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_after_item_i_comes_the_next_on_the_ring(name: str):
    events = walks(4_000 if BASELINES[name].family == NEURAL else 1_500)
    assert play_walks(make(name), events) > 0.9
    assert play_walks(make("popularity"), events) < 0.3


@pytest.mark.parametrize("name", POPULAR)
def test_the_star_leads_the_list_of_somebody_unknown(name: str):
    baseline = make(name)
    teach(baseline, with_a_star(1_200))
    assert baseline.top("nobody", 2_000_000_000_000, 1, set()) == ["i0"]


@pytest.mark.parametrize("name", PERSONAL)
def test_even_users_are_shown_even_items(name: str):
    events = checkerboard(6_000, num_items=20, num_users=20)
    values = [Event(e.user_id, e.item_id, e.type, e.timestamp_ms, value=5.0) for e in events]
    if name == "biased-mf":
        # It predicts ratings and hears of no item that was left alone: both colours must be rated, and differ.
        values = [rated(event, number) for number, event in enumerate(events)]
    share = parity(values, play(make(name), values))
    assert share > (0.8 if name != "biased-mf" else 0.6)
    assert parity(events, play(make("popularity"), events)) < 0.6


def rated(event: Event, number: int) -> Event:
    """Every other event is on an item of the other colour, and rated 1 instead of 5."""
    other = int(event.item_id[1:]) + number % 2
    return Event(event.user_id, f"i{other % 20}", event.type, event.timestamp_ms, value=1.0 if number % 2 else 5.0)


def test_every_baseline_has_a_world_with_a_known_answer():
    assert {*SEQUENTIAL, *POPULAR, *PERSONAL} == set(BASELINES)
    assert {kind.family for kind in BASELINES.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", BASELINES)
def test_a_list_is_distinct_known_not_excluded_and_not_too_long(name: str):
    events = rich(160)
    excluded = frozenset({"i0", "i3", "i4", "not of this stream"})
    baseline, seen = make(name), set()
    assert baseline.top("u1", 0, 5, set()) == []
    for batch in batches(events, SMALL_BATCH):
        for turn, items in zip(batch, player(baseline).play(turns(batch, lambda _: excluded), 6), strict=True):
            assert len(items) == len(set(items)) <= 6
            assert not excluded & set(items)
            assert set(items) <= seen, "an item is listed before the stream has shown it"
            seen.add(turn.item_id)
    assert len(baseline.top("u1", events[-1].timestamp_ms, 6, set())) == 6


@pytest.mark.parametrize("name", BASELINES)
def test_law_2_looking_changes_nothing(name: str):
    baseline = make(name)
    teach(baseline, rich(100))
    before = plain(copy.deepcopy(baseline.state()))
    for user in ("u1", "u2", "nobody"):
        lists = [baseline.top(user, 1_800_000_000_000, 5, {"i1"}) for _ in range(2)]
        assert lists[0] == lists[1]
    assert plain(baseline.state()) == before


@pytest.mark.parametrize("name", BASELINES)
def test_law_5_resumed_equals_uninterrupted(name: str):
    events = rich(230)
    whole, resumed = make(name), make(name)
    teach(whole, events[:101])  # in the middle of a batch, for those that have them
    resumed.load_state(copy.deepcopy(whole.state()))
    teach(whole, events[101:])
    teach(resumed, events[101:])
    assert plain(resumed.state()) == plain(whole.state())
    now_ms = events[-1].timestamp_ms
    for user in ("u1", "u7", "nobody"):
        assert resumed.top(user, now_ms, 9, set()) == whole.top(user, now_ms, 9, set())


@pytest.mark.parametrize("name", BASELINES)
def test_law_3_everything_that_grows_is_bounded(name: str):
    events = rich(400, num_items=60, num_users=40)
    baseline = make(name, Bounds(max_users=5, max_items=2 * SMALL_BATCH))
    for batch in batches(events, SMALL_BATCH):
        lists = player(baseline).play(turns(batch), 5)
        assert all(len(items) == len(set(items)) <= 5 for items in lists)
        for store, (entries, capacity) in baseline.sizes().items():
            assert 0 <= entries <= capacity, store
    assert any(entries == capacity for entries, capacity in baseline.sizes().values()) or name.startswith("popularity")


@pytest.mark.parametrize("name", BASELINES)
def test_a_batch_is_played_as_its_events_one_by_one(name: str):
    events = rich(10 * SMALL_BATCH)
    batched = play(make(name), events)
    single = make(name)
    one_by_one = []
    for event in events:
        one_by_one.append(single.top(event.user_id, event.timestamp_ms, 10, set()))
        single.update(event, 1.0)
    assert batched == one_by_one


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_seed_gives_the_same_and_another_seed_another(name: str):
    events = rich(20 * SMALL_BATCH)
    first, again, other = (play(make(name, seed=seed), events) for seed in (1, 1, 2))
    assert first == again
    assert (first != other) == BASELINES[name].is_seeded


@pytest.mark.parametrize("name", BASELINES)
def test_the_registry_makes_a_player_of_each(name: str):
    going = player_of(name, WIDE, seed=1)
    assert isinstance(going, Player)
    assert isinstance(going, OneByOne) != (BASELINES[name].family == NEURAL)


def test_a_bound_that_no_batch_fits_into_is_refused():
    with pytest.raises(ValueError, match="max_items is 300; allowed is from 512"):
        Gru4Rec(max_users=10, max_items=300)
