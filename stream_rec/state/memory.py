"""Everything that is remembered about users and items, behind one door: look up, read, update, retire.

Shapes: B = moments, I = item rows, P = excluded pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_rec.config import Settings
from stream_rec.records import Event, ItemUpdate
from stream_rec.state.catalogue import Catalogue
from stream_rec.state.context import ContextEncoder, event_types, seconds, value_buckets
from stream_rec.state.histories import TIME_ORIGIN_S, Histories
from stream_rec.state.moments import Moments
from stream_rec.state.seen import SeenItems
from stream_rec.state.shown import ShownList, ShownLists, put_together
from stream_rec.state.statistics import Statistics
from stream_rec.state.task_labels import TaskLabels
from stream_rec.state.vocabulary import Rows, Vocabulary

DAY_S = 86_400


class Memory:
    """The state room. Says which rows of items and users got a new owner, for whoever keeps parameters by row."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        state = settings.state
        self._event_weights = settings.learning.event_weights
        self.allows_repeats = not settings.ranking.exclude_seen
        self._unseen_items = settings.ranking.unseen_items
        self._num_exposure_buckets = state.num_exposure_buckets
        self.device = device
        self.users = Vocabulary("user", state.max_users, state.admit_user_after)
        self.items = Vocabulary("item", state.max_items, state.admit_item_after)
        self.histories = Histories(state.max_users, state.history_length, device)
        self.seen = SeenItems(state.max_users, state.max_seen_per_user, state.max_seen_entries)
        self.statistics = Statistics(state, device)
        self.catalogue = Catalogue(state.max_items, state.max_item_features, state.num_feature_buckets, device)
        self.context = ContextEncoder(state.request_context, state.num_context_slots, state.num_context_buckets)
        self._task_labels = TaskLabels(settings.learning.tasks)
        # An item may be recommended when its row is live and somebody has touched it (or unseen items may be).
        self._listed_I = torch.zeros(state.max_items + 1, dtype=torch.bool, device=device)

    @property
    def num_item_rows(self) -> int:
        """Item rows that tables need to be read for, row 0 included."""
        return self.items.high_water

    @property
    def num_user_rows(self) -> int:
        """User rows that tables need to be read for, row 0 included."""
        return self.users.high_water

    def recommendable(self) -> Tensor:
        """[I] whether each item row may be in a list at all."""
        num_rows = self.num_item_rows
        return self._listed_I[:num_rows] & self.catalogue.available_I[:num_rows]

    def weight(self, event: Event) -> float:
        """The event's weight; 0 keeps it out of everything that is learnt."""
        return self._event_weights.get(event.type, 1.0)

    def is_admitted(self, event: Event) -> bool:
        """Whether an event that has just been entered counted: False while its item waits for admission."""
        return self.weight(event) <= 0 or self.items.row(event.item_id) > 0

    # -- catalogue ---------------------------------------------------------------------------------------------

    def update_catalogue(self, updates: Sequence[ItemUpdate]) -> list[int]:
        """Take in changes of the catalogue. Returns item rows that have a new owner."""
        new_rows: list[int] = []
        for update in updates:
            row = self.items.row(update.item_id)
            if update.item is None:
                self.catalogue.drop(update.item_id, row)
                continue
            if row == 0 and self._unseen_items:
                rows = self._assign_items([update.item_id], counted=False)
                new_rows += rows[1]
                row = int(rows[0][0])
            self.catalogue.put(update.item, row)
        # A catalogue larger than the bound gives a row away again within one call: once is enough.
        return list(dict.fromkeys(new_rows))

    # -- events to moments -------------------------------------------------------------------------------------

    def enter(self, events: Sequence[Event]) -> tuple[Moments, list[int]]:
        """Turn a batch of events into moments; also returns item rows that have a new owner (users: ``new_users``).

        Effects: 1. users and items unseen so far get rows, old ones are retired where room is needed;
        2. what is consumed joins the users' seen items. Statistics and histories follow in ``update``.
        """
        weights = np.fromiter((self.weight(e) for e in events), np.float32, len(events))
        entering = [index for index, weight in enumerate(weights.tolist()) if weight > 0]
        items = np.zeros(len(events), dtype=np.int64)
        assigned_users = self.users.assign([events[i].user_id for i in entering])
        self._retire_users(assigned_users.retired)
        # Looked up after the others have got theirs: an event that does not count may follow its user's first one.
        users = self.users.rows([e.user_id for e in events])
        users[entering] = assigned_users.rows
        items[entering], new_rows = self._assign_items([events[i].item_id for i in entering])
        counts = (weights > 0) & (items > 0)
        excluded, is_new_to_user = self._exclusions(users, items, counts, set(new_rows))
        moments = self._moments(events, users, items, counts, weights, is_new_to_user, excluded)
        moments.new_users = assigned_users.new
        self._listed_I[moments.item_B] = True
        self._listed_I[0] = False
        return moments, new_rows

    def lists(
        self, shown: Sequence[ShownList | None], moments: Moments, new_rows: Sequence[int] = ()
    ) -> ShownLists | None:
        """Lists at a batch of moments as tensors, None where there is none; nothing in them is given a row.

        ``new_rows`` are the item rows that came with the batch: up to the event that brought it, an item is unknown.
        """
        if not any(shown):
            return None
        new = set(new_rows)
        first_at: dict[int, int] = {}
        for index, row in enumerate(moments.items.tolist() if new else ()):
            if row in new:
                first_at.setdefault(row, index)
        return put_together(shown, self.items, first_at, self._num_exposure_buckets, self.device)

    def looking(self, events: Sequence[Event]) -> Moments:
        """The moments just after these events, one per user: what to recommend now. Changes nothing."""
        users = self.users.rows([e.user_id for e in events])
        nothing = np.zeros(len(events), dtype=np.int64)
        no = np.zeros(len(events), dtype=np.bool_)
        seen = [self.seen.of(int(user)) for user in users] if not self.allows_repeats else []
        excluded = self._pairs(list(range(len(seen))), seen)
        return self._moments(events, users, nothing, no, nothing.astype(np.float32), no, excluded)

    def _moments(
        self,
        events: Sequence[Event],
        users: Rows,
        items: Rows,
        counts: NDArray[np.bool_],
        weights: NDArray[np.float32],
        is_new_to_user: NDArray[np.bool_],
        excluded: tuple[Tensor, Tensor] | None,
    ) -> Moments:
        time_s = seconds(events)
        whole_s = np.floor(time_s).astype(np.int64)
        slots = self.context.slots(events)
        item_B, clock_B = self._to_device(items), self._to_device(whole_s - TIME_ORIGIN_S)
        type_B, situation_B = self._to_device(event_types(events)), self._to_device(self.context.situations(events))
        value_B = self._to_device(value_buckets(events))
        history = self.histories.read_before(users, counts, item_B, clock_B, type_B, situation_B, value_B)
        return Moments(
            users=users,
            items=items,
            counts=counts,
            new_users=[],
            newest_s=float(time_s.max()),
            user_B=self._to_device(users),
            item_B=item_B,
            weight_B=self._to_device(weights * counts),
            target_weight_B=self._to_device(weights * (counts & is_new_to_user)),
            time_B=self._to_device(time_s),
            clock_B=clock_B,
            type_B=type_B,
            situation_B=situation_B,
            value_B=value_B,
            labels_BT=self._to_device(self._task_labels.of(events, counts)),
            slots_BC=self._to_device(slots),
            num_slots=int((slots > 0).sum(1).max()),
            hour_B=self._to_device(whole_s % DAY_S // 3600),
            weekday_B=self._to_device((whole_s // DAY_S + 3) % 7),  # the epoch was a Thursday
            history=history,
            gaps_BN=torch.where(history.items_BN > 0, (clock_B[:, None] - history.times_BN).clamp_min(0), 0),
            session_lengths_B=history.session_lengths(clock_B),
            excluded=excluded,
        )

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _exclusions(
        self, users: Rows, items: Rows, counts: NDArray[np.bool_], new_rows: set[int]
    ) -> tuple[tuple[Tensor, Tensor] | None, NDArray[np.bool_]]:
        """Pairs that may not be in a moment's list: what its user had consumed, and what nobody had touched yet.

        Also which events are on items that are new to their users.
        """
        moments: list[int] = []
        rows: list[NDArray[np.int32]] = []
        is_new = counts.copy()
        first_seen: dict[int, int] = {}
        for index, (user, item, count) in enumerate(zip(users.tolist(), items.tolist(), counts.tolist(), strict=True)):
            if not self.allows_repeats and user:
                moments.append(index)
                rows.append(self.seen.of(user).copy())
                if count:
                    is_new[index] = self.seen.add(user, item)
            if count and item in new_rows:
                first_seen.setdefault(item, index)
        for item, index in first_seen.items():
            moments.append(-1 - index)
            rows.append(np.full(index + 1, item, dtype=np.int32))
        return self._pairs(moments, rows), is_new

    def _pairs(self, moments: list[int], rows: list[NDArray[np.int32]]) -> tuple[Tensor, Tensor] | None:
        """Flatten; a moment of -1 - i stands for all moments 0 … i, which then each leave out one row."""
        lengths = np.asarray([len(r) for r in rows], dtype=np.int64)
        if not lengths.sum():
            return None
        starts = np.asarray([max(m, 0) for m in moments], dtype=np.int64)
        steps = np.asarray([m < 0 for m in moments], dtype=np.int64)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        flat = np.repeat(starts, lengths) + within * np.repeat(steps, lengths)
        return self._to_device(flat), self._to_device(np.concatenate(rows).astype(np.int64))

    # -- rows that come and go ---------------------------------------------------------------------------------

    def _assign_items(self, ids: Sequence[str], *, counted: bool = True) -> tuple[Rows, list[int]]:
        assigned = self.items.assign(ids, counted=counted)
        if assigned.retired:
            self._retire_items(assigned.retired)
        if assigned.new:
            rows = np.asarray(assigned.new, dtype=np.int64)
            self.catalogue.place_all(self.items.ids(assigned.new), rows)
            self._listed_I[self._to_device(rows)] = self._unseen_items
        return assigned.rows, assigned.new

    def _retire_items(self, rows: list[int]) -> None:
        self.histories.forget_items(rows, self.users.high_water)
        self.seen.forget_items(rows, self.users.high_water)
        self.statistics.forget_items(rows)
        self._listed_I[torch.tensor(rows, device=self.device)] = False

    def _retire_users(self, rows: list[int]) -> None:
        if rows:
            self.histories.forget_users(rows)
            self.seen.forget_users(rows)

    def update(self, moments: Moments) -> None:
        """Count a batch of events in the statistics and append it to the histories."""
        self.statistics.update(moments, self._to_device(self.histories.turns(moments.users, moments.counts)))
        self.histories.append(
            moments.users,
            moments.counts,
            moments.item_B,
            moments.clock_B,
            moments.type_B,
            moments.situation_B,
            moments.value_B,
        )

    # -- what it holds -----------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Store → (entries, configured bound)."""
        return {
            "users": (len(self.users), self.users.capacity),
            "items": (len(self.items), self.items.capacity),
            "users waiting for a row": (self.users.num_waiting, self.users.capacity),
            "items waiting for a row": (self.items.num_waiting, self.items.capacity),
            "catalogue": (len(self.catalogue), self.catalogue.capacity),
            "items taken out of the catalogue": (self.catalogue.num_gone, self.catalogue.capacity),
            "attribute values": (self.catalogue.num_features, self.catalogue.num_buckets),
            "seen": (self.seen.num_entries, self.seen.capacity),
            "histories": (self.histories.num_entries, self.users.capacity * self.histories.length),
        }

    def state(self) -> dict[str, Any]:
        """All of it."""
        num_users, num_items = self.users.high_water, self.items.high_water
        return {
            "users": self.users.state(),
            "items": self.items.state(),
            "histories": self.histories.state(num_users),
            "seen": self.seen.state(num_users),
            "statistics": self.statistics.state(num_items),
            "catalogue": self.catalogue.state(num_items),
            "listed": self._listed_I[:num_items].clone(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        for name in ("users", "items", "histories", "seen", "statistics", "catalogue"):
            getattr(self, name).load_state(state[name])
        self._listed_I.zero_()
        self._listed_I[: len(state["listed"])] = state["listed"].to(self.device)
