"""The types that cross rooms. JSON on the wire; unknown fields are dropped, never fatal.

Field names are those of the wire. Times are milliseconds since the epoch, UTC.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class Position(Struct, frozen=True, order=True):
    """Where a consumer stands: ``offset`` is the NEXT record to read (KIP-98 and the group protocol agree)."""

    topic: str
    partition: int
    offset: int


class Origin(Struct, frozen=True, order=True):
    """Where one record lies in its log."""

    topic: str
    partition: int
    offset: int


class Event(Struct, frozen=True, gc=False):
    """One interaction. The Kafka key is ``user_id``, so that a user's events stay in order."""

    user_id: str
    item_id: str
    type: str
    timestamp_ms: int = field(name="timestamp")
    event_id: str | None = None
    session_id: str | None = None
    value: float | None = None
    context: dict[str, str | float] = field(default_factory=dict)
    impressions: list[str] = field(default_factory=list)  # what was shown with it, the item among them, as it stood
    prices: list[float | None] = field(default_factory=list)  # beside each of these; empty where there are none


class Item(Struct, frozen=True):
    """One entry of the catalogue (topic ``items``, compacted, key = item_id)."""

    item_id: str
    title: str | None = None
    categories: list[str] = field(default_factory=list)
    price: float | None = None
    tags: list[str] = field(default_factory=list)
    available: bool = True
    attributes: dict[str, str | float] = field(default_factory=dict)


class ItemUpdate(Struct, frozen=True):
    """A change of the catalogue; ``item`` is None where a tombstone says that the item is gone."""

    item_id: str
    item: Item | None


class Received(Struct, frozen=True):
    """A decoded event and where it came from."""

    event: Event
    origin: Origin


class Rejected(Struct, frozen=True):
    """A record that cannot be used: the original bytes, and why. ``reason`` is one of ``REASONS``."""

    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    origin: Origin


# Every reason a record can be rejected for: label values of a metric, so the set is closed.
REASONS = (
    "tombstone",  # null value on `events`
    "too_large",  # more bytes than decode.max_bytes
    "not_utf8",  # the bytes are no UTF-8
    "not_json",  # UTF-8, but no JSON document
    "wrong_shape",  # JSON, but a required field is missing, null or empty, or a type is wrong
    "bad_timestamp",  # before decode.min_timestamp or too far in the future
    "bad_id",  # an id that is too long or holds a control character
)


class Polled(Struct):
    """What one poll brought, in log order.

    ``next_positions`` are the positions after everything in it, rejected and ignored records included.
    ``ended`` says that the log is finite and has been read to its end.
    """

    received: list[Received] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    item_updates: list[ItemUpdate] = field(default_factory=list)
    next_positions: list[Position] = field(default_factory=list)
    ended: bool = False

    def extend(self, more: Polled, *, may_repeat: bool) -> None:
        """Append what a later poll brought; where it ``may_repeat``, without the records that are here already."""
        held: set[Origin] = set()
        if may_repeat:
            held = {r.origin for r in self.received} | {r.origin for r in self.rejected}
        self.received += [r for r in more.received if r.origin not in held]
        self.rejected += [r for r in more.rejected if r.origin not in held]
        self.item_updates += more.item_updates
        # Positions sort by offset: a partition that is given back begins again, before records that are here.
        newest = {(p.topic, p.partition): p for p in sorted([*self.next_positions, *more.next_positions])}
        self.next_positions = list(newest.values())
        self.ended = more.ended

    def __len__(self) -> int:
        return len(self.received) + len(self.rejected) + len(self.item_updates)


EXPLORED = "new, shown to find out"  # the reason of a place that was drawn, not earned


class RankedItem(Struct, frozen=True):
    """One place of a list. ``rank`` starts at 1; ``reasons`` say in short words where the score came from.

    ``propensity``: how likely this item was at this place, given the places above it; only in lists that explore.
    """

    item_id: str
    score: float
    rank: int
    reasons: list[str] = field(default_factory=list)
    propensity: float | UnsetType = UNSET


class CausedBy(Struct, frozen=True):
    """The newest event that a list reflects."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int = field(name="timestamp")


class Recommendation(Struct, frozen=True):
    """A published list (topic ``recommendations``, compacted, key = user_id)."""

    user_id: str
    items: list[RankedItem]
    model_version: str
    batch: int
    caused_by: CausedBy
    generated_at_ms: int = field(name="generated_at")


class JournalRecord(Struct, frozen=True):
    """What one batch took from the log: for each partition the offsets [first, next)."""

    worker: str
    batch: int
    taken: list[tuple[str, int, int, int]]  # topic, partition, first offset, next offset
    num_learnt: int
    num_rejected: int


class Effects(Struct):
    """Everything a step shows to the world, made visible together or not at all."""

    lists: list[Recommendation]
    rejected: list[Rejected]
    journal: JournalRecord
    next_positions: list[Position]


class StepReport(Struct):
    """What one step did, for whoever watches: the terminal, the metrics, a test. Nothing depends on it.

    ``freshness_s`` holds, for every list, seconds from its newest event's timestamp to its acknowledgement.
    ``window`` is method → metric → value over the sliding window, e.g. ``window["model"]["ndcg@10"]``;
    methods are ``model`` and the baselines (``popularity 15 min``, …, ``transitions``).
    """

    batch: int
    num_learnt: int
    num_replayed: int  # learnt again after a restart, not published
    num_rejected: int
    lists: list[Recommendation]
    lag_records: int
    freshness_s: list[float]
    window: dict[str, dict[str, float]]
    learning_rates: dict[str, float]  # part of the model → rate of this step
    loss: float  # NaN where nothing was learnt
    step_skipped: bool  # a non-finite loss or gradient: the step was left out, the state stayed clean
    num_users: int
    num_items: int
    phase_s: dict[str, float]  # poll, score, learn, rank, publish, snapshot → seconds
