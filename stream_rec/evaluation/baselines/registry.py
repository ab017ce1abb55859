"""Every baseline by the name that the command line knows, each at the setting that served it best.

Where streams want different settings (how fast taste moves is what streams differ in most), several are listed: a
stream's best baseline is the best of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stream_rec.evaluation.baselines.base import Baseline, OneByOne, Player
from stream_rec.evaluation.baselines.biased_mf import RiverBiasedMf
from stream_rec.evaluation.baselines.bpr_mf import BprMf
from stream_rec.evaluation.baselines.gru4rec import Gru4Rec
from stream_rec.evaluation.baselines.isgd import Isgd
from stream_rec.evaluation.baselines.item_knn import ItemKnn
from stream_rec.evaluation.baselines.own_repeats import OwnRepeats
from stream_rec.evaluation.baselines.popularity import Popularity
from stream_rec.evaluation.baselines.sasrec import SasRec
from stream_rec.evaluation.baselines.sequential_rules import SequentialRules
from stream_rec.evaluation.baselines.session_knn import SessionKnn
from stream_rec.evaluation.baselines.transitions import TransitionsAlone

HOUR_S = 3_600.0
DAY_S = 24 * HOUR_S
MAX_TRANSITIONS = 128  # successors kept of an item

COUNTING, FACTORISING, NEURAL = "counting", "factorising", "neural"
FAMILIES = (COUNTING, FACTORISING, NEURAL)


class Bounds(NamedTuple):
    """What a baseline may remember at most: ``state.max_users`` and ``state.max_items`` of the settings."""

    max_users: int
    max_items: int


class BaselineKind(NamedTuple):
    """One line of the registry. ``is_seeded`` says that a seed makes a difference."""

    title: str
    family: str
    is_seeded: bool
    make: Callable[[Bounds, int], Baseline]
    only_with_repeats: bool = False


def _popularity(half_life_s: float | None) -> Callable[[Bounds, int], Baseline]:
    return lambda bounds, seed: Popularity(half_life_s, max_items=bounds.max_items)


def _transitions(bounds: Bounds, seed: int) -> Baseline:
    fill = Popularity(0.25 * HOUR_S, max_items=bounds.max_items)
    return TransitionsAlone(30 * DAY_S, MAX_TRANSITIONS, **bounds._asdict(), fill=fill)


def _bpr_fast(bounds: Bounds, seed: int) -> Baseline:
    return BprMf(**bounds._asdict(), seed=seed, bias_rate=0.3, name="BPR-MF, fast biases")


BASELINES: dict[str, BaselineKind] = {
    "popularity-15min": BaselineKind("popularity 15 min", COUNTING, False, _popularity(0.25 * HOUR_S)),
    "popularity-3h": BaselineKind("popularity 3 h", COUNTING, False, _popularity(3 * HOUR_S)),
    "popularity-1d": BaselineKind("popularity 1 d", COUNTING, False, _popularity(DAY_S)),
    "popularity": BaselineKind("popularity all time", COUNTING, False, _popularity(None)),
    "transitions": BaselineKind("transitions", COUNTING, False, _transitions),
    "rules": BaselineKind("sequential rules", COUNTING, False, lambda bounds, _: SequentialRules(**bounds._asdict())),
    "item-knn": BaselineKind("item-kNN", COUNTING, False, lambda bounds, _: ItemKnn(**bounds._asdict())),
    "session-knn": BaselineKind("session kNN", COUNTING, False, lambda bounds, _: SessionKnn(**bounds._asdict())),
    "own-repeats": BaselineKind(
        "own repeats", COUNTING, False, lambda bounds, _: OwnRepeats(**bounds._asdict()), only_with_repeats=True
    ),
    "isgd": BaselineKind("ISGD", FACTORISING, True, lambda bounds, seed: Isgd(**bounds._asdict(), seed=seed)),
    "bpr-mf": BaselineKind("BPR-MF", FACTORISING, True, lambda bounds, seed: BprMf(**bounds._asdict(), seed=seed)),
    "bpr-mf-fast": BaselineKind("BPR-MF, fast biases", FACTORISING, True, _bpr_fast),
    "biased-mf": BaselineKind(
        "River BiasedMF", FACTORISING, True, lambda bounds, seed: RiverBiasedMf(**bounds._asdict(), seed=seed)
    ),
    "gru4rec": BaselineKind("GRU4Rec", NEURAL, True, lambda bounds, seed: Gru4Rec(**bounds._asdict(), seed=seed)),
    "sasrec": BaselineKind("SASRec", NEURAL, True, lambda bounds, seed: SasRec(**bounds._asdict(), seed=seed)),
}


def player_of(name: str, bounds: Bounds, seed: int) -> Player:
    """A new baseline, ready to be played; those that learn per batch are players of their own."""
    baseline = BASELINES[name].make(bounds, seed)
    return baseline if isinstance(baseline, Player) else OneByOne(baseline)
