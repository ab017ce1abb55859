"""The simulated shop: same seed, same bytes; a known drift; and a right answer that simple counting does not reach."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec
import pytest

from producers.simulator import ShopSimulator, SimulatedRecord, SimulatorConfig
from producers.simulator_catalogue import CATEGORIES
from stream_rec.errors import SettingsError
from stream_rec.records import Event, Item, ItemUpdate

SMALL = SimulatorConfig(num_users=300, num_items=480, drift_at=None)


def take(num_records: int, config: SimulatorConfig = SMALL) -> list[SimulatedRecord]:
    return list(itertools.islice(ShopSimulator(config), num_records))


def with_settings(**changes: object) -> SimulatorConfig:
    return msgspec.structs.replace(SMALL, **changes)


def total_variation(a: dict[str, float], b: dict[str, float]) -> float:
    return 0.5 * sum(abs(a.get(key, 0.0) - b.get(key, 0.0)) for key in a.keys() | b.keys())


# --- the stream ----------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_and_another_seed_gives_others() -> None:
    config = with_settings(drift_at=1_000, malformed_share=0.01)
    assert take(4_000, config) == take(4_000, config)
    assert take(4_000, config) != take(4_000, with_settings(drift_at=1_000, malformed_share=0.01, seed=2))


def test_records_are_valid_wire_json_keyed_by_user_and_item_in_time_order() -> None:
    records = take(5_000, with_settings(malformed_share=0.0))
    for record in records:
        assert record.value is not None
        if record.topic == "items":
            item = msgspec.json.decode(record.value, type=Item)
            assert record.key == item.item_id.encode()
            assert item.title
            assert item.categories[0] in {category.name for category in CATEGORIES}
            assert item.price is not None
            assert item.price > 0
            assert {"brand", "product"} <= item.attributes.keys()
        else:
            event = msgspec.json.decode(record.value, type=Event)
            assert record.key == event.user_id.encode()
            assert record.timestamp_ms == event.timestamp_ms
            assert event.type in {"view", "click", "like", "cart", "purchase"}
            assert (event.value is not None) == (event.type == "purchase")
            assert event.context.keys() == {"device", "country", "hour", "daypart"}
            hour = event.timestamp_ms / 1_000 % SMALL.day_s / SMALL.day_s * 24
            assert event.context["hour"] in {int(hour), int(hour + 1e-4)}, "the timestamp is cut to a millisecond"
    assert [r.timestamp_ms for r in records] == sorted(r.timestamp_ms for r in records)
    titles = [msgspec.json.decode(r.value or b"", type=Item).title for r in records[:480]]
    assert len(set(titles)) == 480, "the catalogue comes first, each title once"


def test_event_ids_are_unique_and_sessions_belong_to_one_user() -> None:
    events = ShopSimulator(SMALL).events(3_000)
    assert len({event.event_id for event in events}) == 3_000
    users_of_session: dict[str | None, set[str]] = defaultdict(set)
    for event in events:
        users_of_session[event.session_id].add(event.user_id)
    assert max(len(users) for users in users_of_session.values()) == 1
    assert 3 < 3_000 / len(users_of_session) < 12


def test_the_clock_that_is_passed_in_stamps_each_record_when_it_is_taken() -> None:
    now_ms = itertools.count(5_000_000)
    plain = take(1_000)
    stamped = list(itertools.islice(ShopSimulator(SMALL).records(lambda: next(now_ms)), 1_000))
    assert [record.timestamp_ms for record in stamped] == list(range(5_000_000, 5_001_000))
    for ours, theirs in zip(stamped, plain, strict=True):
        if ours.topic == "events" and (ours.value or b"").startswith(b"{") and ours.value.endswith(b"}"):
            event = msgspec.json.decode(ours.value, type=Event)
            assert event.timestamp_ms == ours.timestamp_ms
            assert event.context == msgspec.json.decode(theirs.value or b"", type=Event).context, "hours stay simulated"


def test_malformed_records_come_in_the_configured_share_and_leave_the_rest_as_it_was() -> None:
    clean = [r for r in take(12_000, with_settings(malformed_share=0.0)) if r.topic == "events"]
    simulator = ShopSimulator(with_settings(malformed_share=0.02))
    mixed = [r for r in itertools.islice(simulator, 12_000) if r.topic == "events"]
    clean_bytes = {record.value for record in clean}
    broken = [record for record in mixed if record.value not in clean_bytes]
    assert len(broken) == simulator.num_malformed
    # 0.02 of about 11,000: 220, and four standard deviations are 59
    assert abs(len(broken) - 0.02 * (len(mixed) - len(broken))) < 60
    kept = [record for record in mixed if record.value in clean_bytes]
    assert kept == clean[: len(kept)]


def test_malformed_records_are_of_every_kind() -> None:
    def kind(value: bytes | None) -> str:
        if value is None:
            return "tombstone"
        try:
            event = msgspec.json.decode(value, type=Event)
        except msgspec.ValidationError:
            return "wrong shape"
        except msgspec.DecodeError:
            return "not json"
        except UnicodeDecodeError:
            return "not utf-8"
        return "absurd timestamp" if event.timestamp_ms > 10_000_000_000_000 else "valid"

    kinds = Counter(kind(r.value) for r in take(3_000, with_settings(malformed_share=0.1)) if r.topic == "events")
    for broken in ("tombstone", "wrong shape", "not json", "absurd timestamp"):
        assert kinds[broken] > 20
    assert any((r.value or b"").startswith(b"\xff") for r in take(3_000, with_settings(malformed_share=0.1)))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_items", 10),
        ("num_items", 5_000),
        ("num_users", 0),
        ("malformed_share", 0.9),
        ("drift_at", 0),
        ("num_retired_items", 400),
        ("redrawn_kits", math.nan),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(setting: str, value: float) -> None:
    with pytest.raises(SettingsError, match=rf"simulator\.{setting} is {value!r}; allowed is .* to "):
        with_settings(**{setting: value})


# --- the shop ------------------------------------------------------------------------------------


def test_what_is_sold_out_or_gone_is_not_touched_and_what_sold_out_comes_back() -> None:
    on_sale: dict[str, bool] = {}
    num_back = num_sold_out = num_gone = num_events = 0
    simulator = ShopSimulator(with_settings(drift_at=4_000))
    for step in simulator.steps():
        if isinstance(step, ItemUpdate):
            was = on_sale.get(step.item_id)
            now = step.item is not None and step.item.available
            num_gone += step.item is None
            num_sold_out += bool(was) and step.item is not None and not now
            num_back += was is False and now
            on_sale[step.item_id] = now
        else:
            assert on_sale[step.item_id], "listed before it is touched, and on sale"
            num_events += 1
        if num_events == 12_000:
            break
    assert num_sold_out > 20
    assert num_back > 10
    assert num_gone == simulator.config.num_retired_items


def test_a_person_looks_at_an_item_once_and_then_may_like_cart_and_purchase_it() -> None:
    first_looks: set[tuple[str, str]] = set()
    last: dict[str, Event] = {}
    for event in ShopSimulator(SMALL).events(6_000):
        if event.type in {"view", "click"}:
            assert (event.user_id, event.item_id) not in first_looks
            first_looks.add((event.user_id, event.item_id))
        else:
            assert event.item_id == last[event.user_id].item_id
        if event.type == "purchase":
            assert last[event.user_id].type == "cart"
        last[event.user_id] = event


def test_popularity_has_a_long_tail() -> None:
    counts = sorted(Counter(event.item_id for event in ShopSimulator(SMALL).events(15_000)).values(), reverse=True)
    assert sum(counts[:48]) > 0.3 * 15_000, "a tenth of the items takes a third of the events"
    assert len(counts) > 400, "and nearly every item is touched"
    slope = math.log(counts[9] / counts[299]) / math.log(300 / 10)
    assert 0.4 < slope < 1.6, "log-log slope of count against rank"


def test_people_come_back_newcomers_keep_arriving_and_some_leave() -> None:
    events = ShopSimulator(SMALL).events(12_000)
    first_seen: dict[str, int] = {}
    last_seen: dict[str, int] = {}
    for n, event in enumerate(events):
        first_seen.setdefault(event.user_id, n)
        last_seen[event.user_id] = n
    num_sessions = Counter(user for user, _ in {(event.user_id, event.session_id) for event in events})
    assert sum(n >= 3 for n in num_sessions.values()) > 100
    for start in range(4_000, 12_000, 1_000):
        assert sum(start <= n < start + 1_000 for n in first_seen.values()) >= 3
    assert sum(n < 6_000 for n in last_seen.values()) > 50


def test_a_persons_next_item_is_many_other_events_away() -> None:
    """Else the lists of a batch could never be out before they are needed, and what is shown would be about luck."""
    last: dict[str, int] = {}
    gaps = []
    for n, event in enumerate(ShopSimulator(SimulatorConfig(drift_at=None)).events(8_000)):
        if event.type in {"view", "click"}:
            if event.user_id in last:
                gaps.append(n - last[event.user_id])
            last[event.user_id] = n
    gaps.sort()
    assert gaps[len(gaps) // 20] > 256, "19 of 20 are a batch away"
    assert gaps[len(gaps) // 2] > 800


def test_the_hour_and_the_device_change_what_people_do() -> None:
    simulator = ShopSimulator(SMALL)
    category_of: dict[str, str] = {}
    by_daypart: dict[object, Counter[str]] = defaultdict(Counter)
    by_device: dict[object, set[str | None]] = defaultdict(set)
    events_by_device: Counter[object] = Counter()
    num_events = 0
    for step in simulator.steps():
        if isinstance(step, ItemUpdate):
            if step.item is not None:
                category_of[step.item_id] = step.item.categories[0]
            continue
        by_daypart[step.context["daypart"]][category_of[step.item_id]] += 1
        by_device[step.context["device"]].add(step.session_id)
        events_by_device[step.context["device"]] += 1
        num_events += 1
        if num_events == 12_000:
            break
    for daypart in ("morning", "evening"):
        theirs = {category.name for category in CATEGORIES if category.daypart == daypart}
        shares = {part: sum(counts[name] for name in theirs) / counts.total() for part, counts in by_daypart.items()}
        other = {"morning": "evening", "evening": "morning"}[daypart]
        assert shares[daypart] > 1.2 * shares[other]
    length = {device: events_by_device[device] / len(sessions) for device, sessions in by_device.items()}
    assert length["mobile"] < length["desktop"]


# --- the drift -----------------------------------------------------------------------------------


def test_until_the_drift_the_world_is_the_one_without_drift_and_from_it_on_another() -> None:
    steady = ShopSimulator(SMALL).events(5_000)
    drifting = ShopSimulator(with_settings(drift_at=3_000)).events(5_000)
    assert drifting[:3_000] == steady[:3_000]
    agree = sum(a.item_id == b.item_id for a, b in zip(drifting[3_000:], steady[3_000:], strict=True))
    assert agree < 400


def test_the_true_next_item_changes_at_the_drift_and_not_at_other_events() -> None:
    # in the middle of an evening: a change of the daypart changes the distribution too
    simulator = ShopSimulator(with_settings(drift_at=2_900))
    simulator.events(2_880)

    def shift_over(num_events: int) -> float:
        """Mean total variation of the next-item distribution of people who do nothing in the meantime."""
        people = [f"user-{n:05d}" for n in range(1, 41)]
        known = {}
        for person in people:
            try:
                known[person] = simulator.next_item_probabilities(person)
            except ValueError:
                continue
        acting = {event.user_id for event in simulator.events(num_events)}
        quiet = [person for person in known if person not in acting]
        assert len(quiet) > 15
        return sum(total_variation(known[p], simulator.next_item_probabilities(p)) for p in quiet) / len(quiet)

    assert shift_over(20) < 0.03
    assert shift_over(1) > 0.5, "event 2,900 is the first of the changed world"
    assert shift_over(20) < 0.03


def test_new_items_are_listed_at_the_drift_and_some_become_hot() -> None:
    simulator = ShopSimulator(with_settings(drift_at=3_000))
    num_events = 0
    listed_at: dict[str, int] = {}
    touched: Counter[str] = Counter()
    for step in simulator.steps():
        if isinstance(step, ItemUpdate):
            listed_at.setdefault(step.item_id, num_events)
        else:
            touched[step.item_id] += 1
            num_events += 1
        if num_events == 9_000:
            break
    assert {item for item, n in listed_at.items() if n > 0} == simulator.new_item_ids
    assert {listed_at[item] for item in simulator.new_item_ids} == {3_000}
    assert len(simulator.new_item_ids) == 60
    hottest = {item for item, _ in touched.most_common(100)}
    assert len(hottest & simulator.new_item_ids) >= 10
    assert "60 new items" in simulator.drift_description
    assert simulator.drift_at == 3_000
    assert simulator.title(min(simulator.new_item_ids)).count(", ") == 1


# --- the right answer ----------------------------------------------------------------------------


def test_asking_the_oracle_changes_nothing() -> None:
    asked, left_alone = ShopSimulator(SMALL), ShopSimulator(SMALL)
    for _ in range(300):
        event = asked.events(1)[0]
        assert event == left_alone.events(1)[0]
        if event.user_id in {"user-00001", "user-00002", "user-00003"}:
            continue
        asked.oracle_top("user-00003", 5)


def test_the_oracle_is_a_distribution_and_lists_its_best() -> None:
    simulator = ShopSimulator(SMALL)
    last = {event.user_id: event for event in simulator.events(200)}
    user = next(user for user, event in last.items() if event.type == "cart" and _is_there(simulator, user))
    for include_seen in (False, True):
        probabilities = simulator.next_item_probabilities(user, include_seen=include_seen)
        assert math.isclose(sum(probabilities.values()), 1.0, rel_tol=1e-9)
        best = sorted(probabilities, key=lambda item: -probabilities[item])[:7]
        got = simulator.oracle_top(user, 7, include_seen=include_seen)
        assert [probabilities[item] for item in got] == [probabilities[item] for item in best]
    assert last[user].item_id not in simulator.next_item_probabilities(user)
    assert simulator.oracle_top(user, 1, include_seen=True) == [last[user].item_id], "the purchase is what comes next"
    with pytest.raises(ValueError, match="user_id 'nobody' is nobody who visits the shop"):
        simulator.oracle_top("nobody", 3)


def _is_there(simulator: ShopSimulator, user: str) -> bool:
    """False for somebody whose last event was the last one ever."""
    try:
        simulator.oracle_top(user, 1)
    except ValueError:
        return False
    return True


def _fill(items: Iterable[str], seen: set[str], rest: list[str]) -> list[str]:
    """At most ten unseen items of ``items``, filled up from ``rest``."""
    chosen = [item for item in items if item not in seen][:10]
    return (chosen + [item for item in rest if item not in chosen])[:10]


def test_the_oracle_hits_clearly_more_than_popularity_and_transitions() -> None:
    simulator = ShopSimulator(with_settings(ceiling_share=1.0))
    popularity: Counter[str] = Counter()
    transitions: dict[str, Counter[str]] = defaultdict(Counter)
    seen: dict[str, set[str]] = defaultdict(set)
    last: dict[str, str] = {}
    best: dict[str, list[str]] = {}
    hits: Counter[str] = Counter()
    expected = variance = 0.0
    probability: dict[str, float] = {}
    num_scored = 0
    for event in (simulator.events(1)[0] for _ in range(6_000)):
        user, item = event.user_id, event.item_id
        if item not in seen[user]:
            if user in best:
                ranked = [i for i, _ in popularity.most_common(10 + len(seen[user]))]
                popular = _fill(ranked, seen[user], [])
                followers = [i for i, _ in transitions[last[user]].most_common()]
                hits["popularity"] += item in popular
                hits["transitions"] += item in _fill(followers, seen[user], popular)
                hits["oracle"] += item in best[user]
                expected += probability[user]
                variance += probability[user] * (1.0 - probability[user])
                num_scored += 1
            if user in last:
                transitions[last[user]][item] += 1
            popularity[item] += 1
            seen[user].add(item)
            last[user] = item
        best.pop(user, None)
        with contextlib.suppress(ValueError):  # somebody whose last event was the last one ever
            known = simulator.next_item_probabilities(user)
            best[user] = heapq.nlargest(10, known, key=known.__getitem__)
            probability[user] = sum(known[i] for i in best[user])
    assert hits["transitions"] > hits["popularity"]
    assert hits["oracle"] > 1.8 * hits["transitions"]
    assert hits["oracle"] > 3.0 * hits["popularity"]
    # The oracle's probabilities are the true ones: its hits are as many as it expects, within four standard deviations.
    assert abs(hits["oracle"] - expected) < 4.0 * math.sqrt(variance)
    ceiling = simulator.ceiling()
    assert ceiling.num_scored == num_scored
    assert math.isclose(ceiling.hr_at_10, hits["oracle"] / num_scored)
    assert 0.4 * ceiling.hr_at_10 < ceiling.ndcg_at_10 < ceiling.hr_at_10


def test_the_ceiling_is_not_a_number_before_anything_is_scored() -> None:
    assert math.isnan(ShopSimulator(SMALL).ceiling().hr_at_10)
