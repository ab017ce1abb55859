"""What is known about items beyond the clicks: attributes as rows of a hashed table, availability, and where they are.

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

EARTH_RADIUS_KM = 6_371.0
LATITUDES, LONGITUDES = ("lat", "latitude"), ("lon", "lng", "longitude")  # attributes that say where an item is
Place = tuple[float, float, float]
NOWHERE: Place = (0.0, 0.0, 0.0)  # the centre of the Earth: no item is there
WORD = re.compile(r"[^\W_]{3,}", re.UNICODE)


class Catalogue:
    """Attributes by item id (bounded: ``capacity`` items, oldest update forgotten first) and by item row."""

    def __init__(self, capacity: int, max_features: int, num_buckets: int, device: torch.device) -> None:
        self.capacity = capacity
        self.num_buckets = num_buckets
        self._max_features = max_features
        self._known: dict[str, tuple[list[int], bool, Place]] = {}  # id → attribute rows, available, place
        self._gone: dict[str, None] = {}  # ids that were taken out, in order: late clicks must not bring them back
        self.features_IA = zeros(capacity + 1, max_features, dtype=torch.int32, device=device)
        self.available_I = torch.ones(capacity + 1, dtype=torch.bool, device=device)
        self.places_I3 = zeros(capacity + 1, 3, device=device)  # km from the centre of the Earth; NOWHERE if unknown
        self.has_places = False
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
        self._known[item.item_id] = (self._feature_rows(item), item.available, place_of(item))
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
        features, available, place = self._lookup(item_id)
        self.has_places |= place != NOWHERE
        self.places_I3[row] = torch.tensor(place, device=self.places_I3.device)
        self.width = max(self.width, len(features))
        padded = features + [0] * (self._max_features - len(features))
        self.features_IA[row] = torch.tensor(padded, dtype=torch.int32, device=self.features_IA.device)
        self.available_I[row] = available

    def place_all(self, ids: list[str], rows: Rows) -> None:
        """``place`` for many rows at once."""
        known = [self._lookup(item_id) for item_id in ids]
        self.width = max([self.width, *(len(features) for features, _, _ in known)])
        places = np.asarray([place for _, _, place in known], dtype=np.float32)
        self.has_places |= bool(places.any())
        features_RA = np.zeros((len(rows), self._max_features), dtype=np.int32)
        for index, (features, _, _) in enumerate(known):
            features_RA[index, : len(features)] = features
        rows_R = torch.from_numpy(rows).to(self.features_IA.device)
        self.features_IA[rows_R] = torch.from_numpy(features_RA).to(self.features_IA.device)
        available = np.fromiter((available for _, available, _ in known), np.bool_, len(known))
        self.available_I[rows_R] = torch.from_numpy(available).to(self.available_I.device)
        self.places_I3[rows_R] = torch.from_numpy(places).to(self.places_I3.device)

    def _lookup(self, item_id: str) -> tuple[list[int], bool, Place]:
        """Attribute rows, availability, place; what the catalogue has never named may be recommended."""
        return self._known.get(item_id) or ([], item_id not in self._gone, NOWHERE)

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
            "known": [[item_id, *known] for item_id, known in self._known.items()],
            "gone": list(self._gone),
            "features": self.features_IA[:num_rows].clone(),
            "available": self.available_I[:num_rows].clone(),
            "places": self.places_I3[:num_rows].clone(),
            "has_places": self.has_places,
            "buckets": list(self._row_of_bucket),
            "width": self.width,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``."""
        self._known = {
            item_id: (list(features), available, (place[0], place[1], place[2]))
            for item_id, features, available, place in state["known"]
        }
        self._gone = dict.fromkeys(state["gone"])
        num_rows = len(state["available"])
        self.features_IA.zero_()
        self.features_IA[:num_rows] = state["features"].to(self.features_IA.device)
        self.available_I[:] = True
        self.available_I[:num_rows] = state["available"].to(self.available_I.device)
        self.places_I3.zero_()
        self.places_I3[:num_rows] = state["places"].to(self.places_I3.device)
        self.has_places = state["has_places"]
        self._row_of_bucket = {bucket: row for row, bucket in enumerate(state["buckets"])}
        self.width = state["width"]


def place_of(item: Item) -> Place:
    """Where an item is, by its attributes ``lat`` and ``lon`` (degrees): km from the centre of the Earth."""
    found = [
        next((item.attributes[name] for name in names if name in item.attributes), None)
        for names in (LATITUDES, LONGITUDES)
    ]
    latitude, longitude = found
    if not isinstance(latitude, int | float) or not isinstance(longitude, int | float) or abs(latitude) > 90:
        return NOWHERE
    north, east = math.radians(latitude), math.radians(longitude)
    return (
        EARTH_RADIUS_KM * math.cos(north) * math.cos(east),
        EARTH_RADIUS_KM * math.cos(north) * math.sin(east),
        EARTH_RADIUS_KM * math.sin(north),
    )
