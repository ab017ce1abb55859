"""A seeded shop with known structure and known drift, for the demo and for tests. It knows the right answer.

People come back, follow kits slot by slot (what sequences teach), have favourite categories, brands and a price
level (what a person's history teaches), behave by time of day and are moved by short bursts (what fresh statistics
teach). Nobody is influenced by what is recommended: hits are earned.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from producers.simulator_catalogue import (
    CATEGORIES,
    DAYPARTS,
    FloatArray,
    Kits,
    Shelf,
    build_catalogue,
    draw_kits,
    most_items,
    most_new_items,
)
from producers.simulator_people import DAYPART_OF_HOUR, FOLLOW_UPS, VISITS_BY_DAYPART, People
from stream_rec.errors import SettingsError
from stream_rec.records import Event, ItemUpdate

GAP_S = 90.0  # mean between two items of a session
FOLLOW_UP_S = 25.0  # mean before a like, cart or purchase of the same item
IN_SESSION_AT_START = 0.6  # share of the people: about what it is later on
SESSION, NEXT = "session", "next"
HOURS_OF_DAYPART = [[h for h in range(24) if DAYPART_OF_HOUR[h] == d] for d in range(len(DAYPARTS))]
LEAVES_FOR_GOOD = 0.10  # after a session
# A kit draws up to 10 items of one category: with these limits they are there even if all that retires is of that one.
FEWEST_ITEMS = 30 * len(CATEGORIES)
MOST_RETIRED = 0.04


class SimulatorConfig(Struct, frozen=True, kw_only=True):
    """What the shop is like. Counts of events are of valid events; malformed records come in between."""

    seed: int = 1
    num_users: int = 1_800  # at any time: who leaves is followed by somebody new
    num_items: int = 960
    num_kits: int = 24
    # People click at their natural pace; with 1,800 of them that is some 15 events a simulated second, and a person's
    # next item some 1,300 events away, as in a big shop. Only the day is short: a demo of a minute sees several.
    day_s: float = 600.0
    days_away: float = 0.2  # mean whole days that a person skips between two visits
    start_ms: int = 1_767_225_600_000  # simulated time starts here (2026-01-01, UTC)
    drift_at: int | None = 20_000  # the first event of the changed world; None: the world never changes
    num_new_items: int = 60  # listed at the drift; a third of them becomes hot
    num_retired_items: int = 12  # taken away at the drift (tombstones)
    redrawn_kits: float = 0.6  # share of the kits that is replaced at the drift
    malformed_share: float = 0.001  # malformed records per valid event
    ceiling_share: float = 0.05  # share of people whose best possible list is kept to measure the ceiling

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "seed": (0, 2**32),
            "num_users": (1, 20_000),
            "num_items": (FEWEST_ITEMS, most_items()),
            "num_kits": (1, 1_000),
            "day_s": (60, 86_400),
            "days_away": (0, 1_000),
            "start_ms": (0, 4_102_444_800_000),
            "num_new_items": (0, most_new_items()),
            "num_retired_items": (0, int(MOST_RETIRED * self.num_items)),
            "redrawn_kits": (0, 1),
            "malformed_share": (0, 0.5),
            "ceiling_share": (0, 1),
        }
        if self.drift_at is not None:
            limits["drift_at"] = (1, math.inf)
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise SettingsError(f"simulator.{name} is {value!r}; allowed is {least:g} to {most:g}")


class SimulatedRecord(Struct, frozen=True):
    """One record for one of the two input topics; a ``value`` of None is a tombstone."""

    topic: Literal["events", "items"]
    key: bytes
    value: bytes | None
    timestamp_ms: int


class Ceiling(Struct, frozen=True):
    """How often the best possible list, made right after a person's last event, holds the person's next new item."""

    hr_at_10: float
    ndcg_at_10: float
    num_scored: int


class ShopSimulator:
    """An endless, one-pass stream: :meth:`records`, :meth:`steps` and :meth:`events` all go on from where it stands."""

    def __init__(self, config: SimulatorConfig | None = None) -> None:
        self.config = config = config or SimulatorConfig()
        self._structure_rng = np.random.default_rng([config.seed, 0])
        # Drift and malformed records have random streams of their own: without them the rest is the same bytes.
        self._drift_rng = np.random.default_rng([config.seed, 2])
        self._malformed_draw = random.Random(f"malformed {config.seed}").random
        self._draw = random.Random(f"time {config.seed}").random
        self._catalogue = build_catalogue(self._structure_rng, config.num_items, config.num_new_items)
        self._start_s = config.start_ms / 1_000
        self._shelf = Shelf(np.random.default_rng([config.seed, 3]), self._catalogue, self._start_s, config.day_s)
        kits = draw_kits(self._structure_rng, self._catalogue, self._shelf.listed_I, config.num_kits)
        self._people = People(config.seed, config.num_users, self._catalogue, kits, self._shelf)
        self._visits = [np.cumsum(visits).tolist() for visits in VISITS_BY_DAYPART]
        self._pending_updates = deque(self._update(int(i)) for i in np.flatnonzero(self._shelf.listed_I))
        self._drifted = False
        self._now_s = self._start_s
        self.num_events = 0
        self.num_malformed = 0
        # (simulated s, place of the person, what comes: SESSION, NEXT, or a type of event on the same item)
        self._agenda: list[tuple[float, int, str]] = []
        for u in range(config.num_users):
            # Part of the people are there already, each somewhere on the way: the shop has no opening rush.
            if self._draw() < IN_SESSION_AT_START:
                self._people.begin_midway(u, self._daypart())
                self._people.device[u] = self._device(u, self._daypart())
                self._agenda.append((self._start_s + GAP_S * self._draw(), u, NEXT))
            else:
                self._agenda.append((self._visit_s(u, self._start_s), u, SESSION))
        heapq.heapify(self._agenda)
        self._items_by_id = {item.item_id: i for i, item in enumerate(self._catalogue.items)}
        self._best_list: dict[int, list[int]] = {}
        self._ceiling_sums = [0.0, 0.0, 0.0]

    @property
    def drift_at(self) -> int | None:
        """Index (from 0) of the first event of the changed world."""
        return self.config.drift_at

    @property
    def drift_description(self) -> str:
        """What changes at :attr:`drift_at`, in words short enough for a line with other things on it."""
        if self.config.drift_at is None:
            return "nothing changes"
        return f"tastes shift now, {self.config.num_new_items} new items, {self.config.num_retired_items} gone"

    @property
    def new_item_ids(self) -> frozenset[str]:
        """The items that are listed at the drift."""
        return frozenset(self._catalogue.items[int(i)].item_id for i in np.flatnonzero(self._catalogue.late_I))

    def title(self, item_id: str) -> str:
        """Title of any item there is or will be; the id itself where it is unknown."""
        i = self._items_by_id.get(item_id)
        return item_id if i is None else self._catalogue.items[i].title or item_id

    def events(self, num_events: int) -> list[Event]:
        """The next ``num_events`` events, stamped with simulated time; catalogue changes take effect unseen."""
        events: list[Event] = []
        while len(events) < num_events:
            step = self._advance(None)
            if isinstance(step, Event):
                events.append(step)
        return events

    def steps(self, timestamp: Callable[[], int] | None = None) -> Iterator[Event | ItemUpdate]:
        """Events and catalogue changes in simulated time order, without end. See :meth:`records` for ``timestamp``."""
        while True:
            yield self._advance(timestamp)

    def __iter__(self) -> Iterator[SimulatedRecord]:
        return self.records()

    def records(self, timestamp: Callable[[], int] | None = None) -> Iterator[SimulatedRecord]:
        """The same as wire JSON with malformed records in between: first the catalogue, then events and changes.

        ``timestamp`` (ms since the epoch) stamps each record when it is taken, so that freshness can be measured;
        without it records carry simulated time. Either way ``context`` holds the simulated hour (0 to 23) and daypart.
        """
        encoder = msgspec.json.Encoder()
        share = self.config.malformed_share
        while True:
            step = self._advance(timestamp)
            if isinstance(step, ItemUpdate):
                now_ms = timestamp() if timestamp else int(self._now_s * 1_000)
                value = encoder.encode(step.item) if step.item else None
                yield SimulatedRecord("items", step.item_id.encode(), value, now_ms)
                continue
            key, value = step.user_id.encode(), encoder.encode(step)
            yield SimulatedRecord("events", key, value, step.timestamp_ms)
            if self._malformed_draw() < share:
                broken = _malform(step, value, self.num_malformed)
                self.num_malformed += 1
                yield SimulatedRecord("events", key, broken, step.timestamp_ms)

    def next_item_probabilities(self, user_id: str, *, include_seen: bool = False) -> dict[str, float]:
        """The true probability of each item to be this person's next, as things stand now; zeros are left out.

        Without ``include_seen``: of the next item that is new to this person. With it: of the next event, which may be
        a like, cart or purchase of the last item. Changes nothing. Raises ValueError where nobody has this id now.
        """
        probability_I = self._next_item(self._place_of(user_id), include_seen=include_seen)
        return {self._catalogue.items[i].item_id: float(probability_I[i]) for i in np.flatnonzero(probability_I)}

    def oracle_top(self, user_id: str, k: int, *, include_seen: bool = False) -> list[str]:
        """The ``k`` most probable next items of this person, best first: no recommender can do better on average.

        It knows what a recommender can only guess (the kit in hand, tastes, bursts), but not what is drawn next.
        See :meth:`next_item_probabilities` for ``include_seen`` and errors.
        """
        probability_I = self._next_item(self._place_of(user_id), include_seen=include_seen)
        return [self._catalogue.items[i].item_id for i in _top(probability_I, k)]

    def ceiling(self) -> Ceiling:
        """The oracle's own hit rate so far, measured on ``ceiling_share`` of the people; NaN before the first score."""
        num, hits, gains = self._ceiling_sums
        return Ceiling(hits / num, gains / num, int(num)) if num else Ceiling(math.nan, math.nan, 0)

    def _place_of(self, user_id: str) -> int:
        u = self._people.place_of.get(user_id)
        if u is None:
            raise ValueError(f"user_id {user_id!r} is nobody who visits the shop now")
        return u

    def _next_item(self, u: int, *, include_seen: bool) -> FloatArray:
        people = self._people
        begins_I = people.next_new_item(u, VISITS_BY_DAYPART[people.habit[u]], first=True)
        if not people.num_sessions[u]:
            return begins_I
        now = self._daypart()
        goes_on_I = people.next_new_item(u, [float(d == now) for d in range(len(DAYPARTS))], first=False)
        if not people.last_type[u]:
            return goes_on_I
        ends = people.end_of_session(u)
        next_I = ends * begins_I + (1.0 - ends) * goes_on_I
        last = people.last_item[u]
        if include_seen and self._shelf.on_sale_I[last] > 0.0:
            again = sum(probability for _, probability in FOLLOW_UPS[people.last_type[u]])
            next_I *= 1.0 - again
            next_I[last] += again
        return next_I

    def _advance(self, timestamp: Callable[[], int] | None) -> Event | ItemUpdate:
        """One step of the world.

        Effects, in order: catalogue changes that wait come first, then the drift at its event, then what sells out
        or comes back before the next event, then the event.
        """
        while True:
            if self._pending_updates:
                return self._pending_updates.popleft()
            if self.num_events == self.config.drift_at and not self._drifted:
                self._drift()
            elif self._shelf.next_change_s <= self._agenda[0][0]:
                self._now_s = max(self._now_s, self._shelf.next_change_s)
                self._pending_updates.extend(self._update(i) for i in self._shelf.advance(self._now_s))
            else:
                return self._next_event(timestamp)

    def _next_event(self, timestamp: Callable[[], int] | None) -> Event:
        people = self._people
        self._now_s, u, what = heapq.heappop(self._agenda)
        daypart = self._daypart()
        if what == SESSION:
            people.num_sessions[u] += 1
            people.device[u] = self._device(u, daypart)
        if what in FOLLOW_UPS and self._shelf.on_sale_I[people.last_item[u]] > 0.0:
            event_type, i = what, people.last_item[u]
        else:
            event_type = "click" if self._draw() < 0.3 else "view"
            i = people.go(u, daypart, first=what == SESSION)
            self._score_best_list(u, i)
        people.last_type[u] = event_type
        event = Event(
            user_id=people.user_id[u],
            item_id=self._catalogue.items[i].item_id,
            type=event_type,
            timestamp_ms=timestamp() if timestamp else int(self._now_s * 1_000),
            event_id=f"event-{self.num_events}",
            session_id=f"{people.user_id[u]}-{people.num_sessions[u]}",
            value=self._catalogue.items[i].price if event_type == "purchase" else None,
            context={
                "device": people.device[u],
                "country": people.country[u],
                "hour": float(self._hour()),
                "daypart": DAYPARTS[daypart],
            },
        )
        self.num_events += 1
        if u < self.config.ceiling_share * self.config.num_users:
            self._best_list[u] = _top(self._next_item(u, include_seen=False), 10)
        self._plan(u, event_type)
        return event

    def _plan(self, u: int, event_type: str) -> None:
        """Draw what this person does next and when: the same item again, another one, a later visit, or never again."""
        people, draw = self._people, self._draw
        r = draw()
        for follow_up, probability in FOLLOW_UPS[event_type]:
            r -= probability
            if r < 0.0:
                heapq.heappush(self._agenda, (self._now_s - FOLLOW_UP_S * math.log(1.0 - draw()), u, follow_up))
                return
        if draw() >= people.end_of_session(u):
            # Gamma with shape 4: people seldom take in the next page within a fraction of the usual time.
            gap_s = -GAP_S / 4 * math.log((1.0 - draw()) * (1.0 - draw()) * (1.0 - draw()) * (1.0 - draw()))
            heapq.heappush(self._agenda, (self._now_s + gap_s, u, NEXT))
            return
        if draw() < LEAVES_FOR_GOOD or people.num_seen[u] > self.config.num_items // 3:
            people.arrive(u)
            self._best_list.pop(u, None)
        heapq.heappush(self._agenda, (self._visit_s(u, self._now_s), u, SESSION))

    def _score_best_list(self, u: int, i: int) -> None:
        best = self._best_list.get(u)
        if best is None:
            return
        self._ceiling_sums[0] += 1.0
        if i in best:
            self._ceiling_sums[1] += 1.0
            self._ceiling_sums[2] += 1.0 / math.log2(2.0 + best.index(i))

    def _visit_s(self, u: int, after_s: float) -> float:
        """When this person comes next: some days later, at an hour of the person's habit."""
        day_s = self.config.day_s
        midnight_s = after_s - after_s % day_s
        num_days = int(-math.log(1.0 - self._draw()) * self.config.days_away)
        daypart = bisect(self._visits[self._people.habit[u]], self._draw())
        hours = HOURS_OF_DAYPART[min(daypart, len(DAYPARTS) - 1)]
        visit_s = midnight_s + (num_days + (hours[0] + self._draw() * len(hours)) / 24) * day_s
        return visit_s if visit_s > after_s else visit_s + day_s

    def _device(self, u: int, daypart: int) -> str:
        if self._draw() < 0.75:
            return self._people.main_device[u]
        return "desktop" if DAYPARTS[daypart] in ("midday", "afternoon") else "mobile"

    def _hour(self) -> int:
        return int(self._now_s % self.config.day_s / self.config.day_s * 24)

    def _daypart(self) -> int:
        return DAYPART_OF_HOUR[self._hour()]

    def _update(self, i: int) -> ItemUpdate:
        item = self._catalogue.items[i]
        if not self._shelf.on_sale_I[i]:
            item = msgspec.structs.replace(item, available=False)
        return ItemUpdate(item.item_id, item)

    def _drift(self) -> None:
        """Change the world, once: goods listed and retired, kits replaced, tastes permuted, new goods in fashion."""
        self._drifted = True
        rng, config, goods = self._drift_rng, self.config, self._catalogue
        listed = np.flatnonzero(goods.late_I)
        retired = rng.choice(np.flatnonzero(~goods.late_I), config.num_retired_items, replace=False)
        self._shelf.list_and_retire(listed, retired)
        redrawn_K = rng.choice(config.num_kits, round(config.redrawn_kits * config.num_kits), replace=False)
        old, fresh = self._people.kits, draw_kits(rng, goods, self._shelf.listed_I, config.num_kits)
        slots_KSA, category_K = old.slots_KSA.copy(), old.category_K.copy()
        slots_KSA[redrawn_K] = fresh.slots_KSA[redrawn_K]
        category_K[redrawn_K] = fresh.category_K[redrawn_K]
        circle = rng.permutation(len(CATEGORIES))
        permutation_C = np.empty_like(circle)
        permutation_C[circle] = np.roll(circle, 1)  # one circle through all categories: none stays where it was
        self._people.swap_tastes(permutation_C, Kits(slots_KSA, category_K, old.popularity_K), redrawn_K)
        self._shelf.start_burst(goods.hot[:5], self._now_s + self.config.day_s)
        self._pending_updates.extend(self._update(int(i)) for i in listed)
        self._pending_updates.extend(ItemUpdate(goods.items[int(i)].item_id, None) for i in retired)


def _top(probability_I: FloatArray, k: int) -> list[int]:
    best = np.argpartition(-probability_I, min(k, len(probability_I) - 1))[:k]
    best = best[np.argsort(-probability_I[best], kind="stable")]
    return [int(i) for i in best if probability_I[i] > 0.0]


def _malform(event: Event, value: bytes, n: int) -> bytes | None:
    """The ``n``-th malformed record: the kinds take turns, each in the likeness of ``event``."""
    fields = msgspec.to_builtins(event)
    match n % 5:
        case 0:
            return value[: len(value) // 2]
        case 1:
            return msgspec.json.encode({name: field for name, field in fields.items() if name != "item_id"})
        case 2:
            return msgspec.json.encode({**fields, "timestamp": 99_999_999_999_999})
        case 3:
            return b"\xff\xfe" + value
        case _:
            return None
