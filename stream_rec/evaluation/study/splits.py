"""Events parted by what was known of their user and their item.

Shapes: E scored events, I items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_rec.evaluation.study.answers import AnswerTable

Mask = NDArray[np.bool_]

SHORT_HISTORY = 4  # events of a user up to which his history is short
NEW_ITEM_EVENTS = 5_000  # an item is new until so many events have been counted since the first of it
HEAD_SHARE = 0.2  # of the items that were scored, those taken most often

NO_HISTORY, SHORT, LONG = "no history", "1 to 4 events", "5 events or more"
UNSEEN_ITEM, NEW_ITEM, KNOWN_ITEM = "item never seen", "new item", "known item"
HEAD, TAIL = "head", "tail"
SPLITS = {
    "user": (NO_HISTORY, SHORT, LONG),
    "item": (UNSEEN_ITEM, NEW_ITEM, KNOWN_ITEM),
    "popularity": (HEAD, TAIL),
}
MEANING = (
    f"User: events that count of him so far. Item: never seen in the stream (a miss for every method), new for the "
    f"first {NEW_ITEM_EVENTS:,} events after its first, known after that. Head: the {HEAD_SHARE:.0%} of the scored "
    f"items that were taken most often, by hindsight; tail: all others."
)


def masks(answers: AnswerTable) -> dict[str, Mask]:
    """Split → which events (E,) belong to it; each of ``SPLITS``' groups holds every event once."""
    length_E, age_E = answers.history_length, answers.item_age_events
    is_unseen_E = answers.times_seen == 0
    is_new_E = ~is_unseen_E & (age_E <= NEW_ITEM_EVENTS)
    is_head_E = _is_head(answers.item_number)
    return {
        NO_HISTORY: length_E == 0,
        SHORT: (length_E > 0) & (length_E <= SHORT_HISTORY),
        LONG: length_E > SHORT_HISTORY,
        UNSEEN_ITEM: is_unseen_E,
        NEW_ITEM: is_new_E,
        KNOWN_ITEM: ~is_unseen_E & ~is_new_E,
        HEAD: is_head_E,
        TAIL: ~is_head_E,
    }


def _is_head(number_E: NDArray[np.int32]) -> Mask:
    counts_I = np.bincount(number_E, minlength=1)
    num_head = int(np.ceil(HEAD_SHARE * np.count_nonzero(counts_I)))
    # Stable, so that among equals the item that was first shown first is in the head.
    head = np.argsort(-counts_I, kind="stable")[:num_head]
    is_head_I = np.zeros(len(counts_I), dtype=np.bool_)
    is_head_I[head] = True
    is_head_E: Mask = is_head_I[number_E]
    return is_head_E
