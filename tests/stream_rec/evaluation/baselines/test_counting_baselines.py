"""Baselines against brute force, and one suite that every baseline passes."""

import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_rec.evaluation.baselines.decay import ForwardDecay, half_life_name
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.evaluation.baselines.transitions import Transitions
from stream_rec.records import Event

DAY_MS = 86_400_000
ITEMS = "abcdefgh"
USERS = "uvw"

# Timestamps go back and forth: a log is in order of arrival, not of time.
EVENTS = st.lists(
    st.builds(
        Event,
        user_id=st.sampled_from(USERS),
        item_id=st.sampled_from(ITEMS),
        type=st.just("click"),
        timestamp_ms=st.integers(0, 100_000),
    ),
    max_size=60,
)
EXCLUDED = st.sets(st.sampled_from(ITEMS))


def event(item, at_ms=0, user="u"):
    return Event(user_id=user, item_id=item, type="click", timestamp_ms=at_ms)


def popularity(half_life_s=None, **bounds):
    return Popularity(half_life_s, **{"max_items": 100, **bounds})


def transitions(half_life_s=None, max_neighbours=50, max_users=100, max_items=100, fill=None):
    return Transitions(half_life_s, max_neighbours, max_users=max_users, max_items=max_items, fill=fill or popularity())


BASELINES = {
    "all time": popularity,
    "10 s": lambda: popularity(10.0),
    "narrow": lambda: popularity(10.0, max_items=5, num_kept_sorted=2),
    "transitions": lambda: transitions(10.0),
    "narrow transitions": lambda: transitions(10.0, max_neighbours=2, max_users=2, max_items=3),
}


@given(events=EVENTS, excluded=EXCLUDED, k=st.integers(1, 10))
@pytest.mark.parametrize("kind", BASELINES)
def test_every_baseline(kind, events, excluded, k):
    baseline, resumed, half = BASELINES[kind](), BASELINES[kind](), len(events) // 2
    for one in events[:half]:
        baseline.update(one, 1.0)
    resumed.load_state(json.loads(json.dumps(baseline.state())))
    for one in events[half:]:
        baseline.update(one, 1.0)
        resumed.update(one, 1.0)
        assert all(entries <= capacity for entries, capacity in baseline.sizes().values())
    assert resumed.state() == baseline.state(), "resumed equals uninterrupted"
    for user in USERS:
        before = json.dumps(baseline.state())
        items = baseline.top(user, 0, k, excluded)
        assert json.dumps(baseline.state()) == before, "looking changes nothing"
        assert items == resumed.top(user, 0, k, excluded), "deterministic"
        assert len(items) == len(set(items)) <= k
        assert not excluded.intersection(items)
        assert set(items) <= {one.item_id for one in events}


@given(EVENTS, EXCLUDED, st.integers(1, 10), st.sampled_from([None, 0.5, 10.0, 1_000.0]), st.integers(1, 10))
def test_popularity_is_exactly_the_most_popular_not_excluded(events, excluded, k, half_life_s, num_kept_sorted):
    baseline, decay = popularity(half_life_s, num_kept_sorted=num_kept_sorted), ForwardDecay(half_life_s)
    scores, touched = {}, {}
    for number, one in enumerate(events):
        baseline.update(one, 1.0)
        scores[one.item_id] = decay.added(scores.get(one.item_id), one.timestamp_ms, 1.0)
        touched[one.item_id] = number
    ranked = sorted(scores, key=lambda item: (-scores[item], -touched[item]))
    assert baseline.top("u", 0, k, excluded) == [item for item in ranked if item not in excluded][:k]


@given(EVENTS, st.sampled_from([0.5, 10.0, 1_000.0]))
def test_scores_are_log2_of_the_decayed_sum(events, half_life_s):
    decay, scores, now_ms = ForwardDecay(half_life_s), {}, 100_000
    sums = defaultdict(float)
    for number, one in enumerate(events):
        weight = 1.0 + number % 3
        scores[one.item_id] = decay.added(scores.get(one.item_id), one.timestamp_ms, weight)
        sums[one.item_id] += weight * 2 ** (-(now_ms - one.timestamp_ms) / (half_life_s * 1000))
    for item, score in scores.items():
        decayed = 2 ** (score - (now_ms - decay.landmark_ms) / (half_life_s * 1000))
        assert decayed == pytest.approx(sums[item], rel=1e-9)


def test_decay_changes_who_is_popular():
    fresh, ever = popularity(60.0), popularity()
    for baseline in (fresh, ever):
        for one in [event("old", 0)] * 3 + [event("new", 120_000)]:
            baseline.update(one, 1.0)
    # Three clicks two half-lives ago weigh 3/4.
    assert fresh.top("u", 0, 2, set()) == ["new", "old"]
    assert ever.top("u", 0, 2, set()) == ["old", "new"]


def test_a_late_event_counts_what_it_would_have_counted_in_time():
    late, in_time = popularity(60.0), popularity(60.0)
    for baseline, order in ((late, (1, 2, 0)), (in_time, (0, 1, 2))):
        log = [event("a", 0), event("b", 60_000), event("c", 90_000)]
        for number in order:
            baseline.update(log[number], 1.0)
        assert baseline.top("u", 0, 3, set()) == ["c", "b", "a"]


def test_centuries_of_a_short_half_life_do_not_overflow():
    baseline = popularity(1.0)
    for year in range(300):
        baseline.update(event(f"item {year}", year * 365 * DAY_MS), 1.0)
    baseline.update(event("item 0", 299 * 365 * DAY_MS + 1), 1.0)
    assert baseline.top("u", 0, 3, set()) == ["item 0", "item 299", "item 298"]


def test_weights_count():
    baseline = popularity(60.0)
    baseline.update(event("bought"), 3.0)
    for _ in range(2):
        baseline.update(event("viewed"), 1.0)
    assert baseline.top("u", 0, 2, set()) == ["bought", "viewed"]


def test_equals_are_ordered_by_last_touch():
    baseline = popularity()
    for item in "abca":
        baseline.update(event(item), 1.0)
    assert baseline.top("u", 0, 3, set()) == ["a", "c", "b"]


def test_the_least_popular_are_evicted():
    baseline = popularity(max_items=32, num_kept_sorted=4)
    for item in [f"{number}" for number in range(32)] * 2 + ["newcomer"]:
        baseline.update(event(item), 1.0)
    kept = baseline.top("u", 0, 100, set())
    assert len(kept) == 31  # a sixteenth went, the newcomer and the one touched longest ago among those of two
    assert "newcomer" not in kept
    assert "0" not in kept


def test_a_smaller_bound_after_a_restart_keeps_the_best():
    wide, narrow = popularity(), popularity(max_items=2)
    for item in "aaabbc":
        wide.update(event(item), 1.0)
    narrow.load_state(wide.state())
    assert narrow.top("u", 0, 9, set()) == ["a", "b"]


def test_a_half_life_below_a_tick_is_refused():
    with pytest.raises(ValueError, match=r"half_life_s is 0\.0;"):
        popularity(0.0)


@given(EVENTS, EXCLUDED, st.integers(1, 10))
def test_transitions_are_counts_of_what_followed_filled_with_popularity(events, excluded, k):
    fill = popularity()
    baseline = transitions(fill=fill)
    counts, touched, last = defaultdict(lambda: defaultdict(int)), {}, {}
    for number, one in enumerate(events):
        fill.update(one, 1.0)
        baseline.update(one, 1.0)
        if one.user_id in last:
            pair = (last[one.user_id], one.item_id)
            counts[pair[0]][pair[1]] += 1
            touched[pair] = number
        last[one.user_id] = one.item_id
    for user in USERS:
        row = counts[last.get(user)]
        followed = sorted(row, key=lambda item: (-row[item], -touched[last[user], item]))
        popular = [item for item in fill.top(user, 0, len(ITEMS), excluded) if item not in followed]
        expected = ([item for item in followed if item not in excluded] + popular)[:k]
        assert baseline.top(user, 0, k, excluded) == expected


def test_an_old_transition_gives_way_to_a_fresh_one():
    baseline = transitions(half_life_s=60.0)
    for start_ms, following in ((0, "old"), (10_000, "old"), (600_000, "new")):
        baseline.update(event("from", start_ms), 1.0)
        baseline.update(event(following, start_ms), 1.0)
    baseline.update(event("from", 700_000), 1.0)
    assert baseline.top("u", 0, 2, set()) == ["new", "old"]


def test_the_smallest_successor_makes_room():
    baseline = transitions(max_neighbours=2)
    for following in ("twice", "twice", "once", "newcomer"):
        for item in ("from", following):
            baseline.update(event(item), 1.0)
    baseline.update(event("from"), 1.0)
    assert baseline.top("u", 0, 9, set()) == ["twice", "newcomer"]


def test_users_and_items_are_forgotten_by_last_use():
    baseline = transitions(max_users=2, max_items=2)
    for user in ("u", "v", "u", "w"):  # v is the one not seen for longest
        for item in (f"{user} first", f"{user} second"):
            baseline.update(event(item, user=user), 1.0)
    state = baseline.state()
    assert [user for user, _ in state["last"]] == ["u", "w"]
    assert len(state["successors"]) == 2


def test_a_smaller_bound_of_neighbours_after_a_restart_keeps_the_largest():
    wide, narrow = transitions(), transitions(max_neighbours=1)
    for following in ("twice", "twice", "once"):
        for item in ("from", following):
            wide.update(event(item), 1.0)
    wide.update(event("from"), 1.0)
    narrow.load_state(json.loads(json.dumps(wide.state())))
    assert narrow.top("u", 0, 9, set()) == ["twice"]


@pytest.mark.parametrize(
    ("half_life_s", "name"),
    [
        (900.0, "15 min"),
        (10_800.0, "3 h"),
        (5_400.0, "90 min"),
        (172_800.0, "2 d"),
        (45.0, "45 s"),
        (0.5, "0.5 s"),
        (None, "all time"),
    ],
)
def test_names(half_life_s, name):
    assert half_life_name(half_life_s) == name
    assert popularity(half_life_s).name == f"popularity {name}"
