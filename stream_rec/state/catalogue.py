"""What is known about items beyond the clicks: attributes as rows of a hashed table, and availability.

Shapes: I = item rows, A = attributes kept per item.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch

from stream_rec.records import Item
from stream_rec.state.allocation import zeros
from stream_rec.state.context import category_row
from stream_rec.state.vocabulary import Rows

WORD = re.compile(r"[^\W_]{3,}", re.UNICODE)


class Catalogue:
    """Attributes by item id (bounded: ``capacity`` items, oldest update forgotten first) and by item row."""

    def __init__(self, capacity: int, max_features: int, num_buckets: int, device: torch.device) -> None:
        self.capacity = capacity
        self.num_buckets = num_buckets
        self._max_features = max_features
        self._known: dict[str, tuple[list[int], bool]] = {}  # id → attribute rows, available
        self._gone: dict[str, None] = {}  # ids that were taken out, in order: late clicks must not bring them back
        self.features_IA = zeros(capacity + 1, max_features, dtype=torch.int32, device=device)
        self.available_I = torch.ones(capacity + 1, dtype=torch.bool, device=device)
        self._row_of_bucket: dict[int, int] = {0: 0}
        self.width = 0  # most attributes that any item has had: what readers need of the A columns

    @property
    def num_features(self) -> int:
        """Attribute rows in use, 0 (none) included: buckets get rows in the order in which they are first met."""
        return len(self._row_of_bucket)

    @property
    def num_gone(self) -> int:
        """Items remembered as taken out of the catalogue: at most ``capacity``."""
        return len(self._gone)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._known

    def put(self, item: Item, row: int) -> None:
        """Remember an item; ``row`` is its row or 0 if it has none yet."""
        self._gone.pop(item.item_id, None)
        self._known.pop(item.item_id, None)
        if len(self._known) >= self.capacity:
            self._known.pop(next(iter(self._known)))
        self._known[item.item_id] = (self._feature_rows(item), item.available)
        if row:
            self.place(item.item_id, row)

    def drop(self, item_id: str, row: int) -> None:
        """The item is gone: it may no longer be recommended, also if its first click comes after this."""
        self._known.pop(item_id, None)
        self._gone.pop(item_id, None)
        if len(self._gone) >= self.capacity:
            self._gone.pop(next(iter(self._gone)))
        self._gone[item_id] = None
        if row:
            self.available_I[row] = False

    def place(self, item_id: str, row: int) -> None:
        """Write what is known of an item into the row that it has been given."""
        features, available = self._lookup(item_id)
        self.width = max(self.width, len(features))
        padded = features + [0] * (self._max_features - len(features))
        self.features_IA[row] = torch.tensor(padded, dtype=torch.int32, device=self.features_IA.device)
        self.available_I[row] = available

    def place_all(self, ids: list[str], rows: Rows) -> None:
        """``place`` for many rows at once."""
        known = [self._lookup(item_id) for item_id in ids]
        self.width = max([self.width, *(len(features) for features, _ in known)])
        features_RA = np.zeros((len(rows), self._max_features), dtype=np.int32)
        for index, (features, _) in enumerate(known):
            features_RA[index, : len(features)] = features
        rows_R = torch.from_numpy(rows).to(self.features_IA.device)
        self.features_IA[rows_R] = torch.from_numpy(features_RA).to(self.features_IA.device)
        available = np.fromiter((available for _, available in known), np.bool_, len(known))
        self.available_I[rows_R] = torch.from_numpy(available).to(self.available_I.device)

    def _lookup(self, item_id: str) -> tuple[list[int], bool]:
        """Attribute rows and availability; what the catalogue has never named may be recommended."""
        return self._known.get(item_id) or ([], item_id not in self._gone)

    def _feature_rows(self, item: Item) -> list[int]:
        """Categories first, then tags, price band, attributes and title words, as far as there is room."""
        fields: list[tuple[str, str | float]] = [("category", value) for value in item.categories]
        fields += [("tag", value) for value in item.tags]
        if item.price is not None and item.price > 0:
            # Bands of a factor of √2: what is cheap or dear is a matter of ratios.
            fields.append(("price", float(round(2 * math.log2(item.price)))))
        fields += sorted(item.attributes.items())
        fields += [("word", word) for word in WORD.findall((item.title or "").lower())]
        buckets = dict.fromkeys(category_row(f"item.{key}", value, self.num_buckets) for key, value in fields)
        buckets.pop(0, None)
        rows = self._row_of_bucket
        return [rows.setdefault(bucket, len(rows)) for bucket in list(buckets)[: self._max_features]]

    def state(self, num_rows: int) -> dict[str, Any]:
        """All of it for item rows below ``num_rows``."""
        return {
            "known": [[item_id, features, available] for item_id, (features, available) in self._known.items()],
            "gone": list(self._gone),
            "features": self.features_IA[:num_rows].clone(),
            "available": self.available_I[:num_rows].clone(),
            "buckets": list(self._row_of_bucket),
            "width": self.width,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._known = {item_id: (list(features), available) for item_id, features, available in state["known"]}
        self._gone = dict.fromkeys(state["gone"])
        num_rows = len(state["available"])
        self.features_IA.zero_()
        self.features_IA[:num_rows] = state["features"].to(self.features_IA.device)
        self.available_I[:] = True
        self.available_I[:num_rows] = state["available"].to(self.available_I.device)
        self._row_of_bucket = {bucket: row for row, bucket in enumerate(state["buckets"])}
        self.width = state["width"]
