"""The baselines on recorded logs land where an independent prototype of the same protocol had them."""

import pyarrow.parquet as parquet
import pytest

from stream_rec.config import EvaluationSettings, RankingSettings, StateSettings
from stream_rec.evaluation.prequential import PrequentialEvaluator
from stream_rec.records import Event

# file → share of burn-in, method → HR@10 of the prototype (globo: first 60,000 events)
FIGURES = {
    "globo_u10": (0.5, {"popularity 15 min": 0.632, "popularity all time": 0.257, "transitions": 0.524}),
    "deskdrop": (0.1, {"popularity 3 h": 0.623, "popularity all time": 0.025, "transitions": 0.420}),
}


@pytest.mark.logs
@pytest.mark.parametrize("name", FIGURES)
def test_hit_rates_of_the_baselines(event_logs, name):
    burn_in_fraction, expected = FIGURES[name]
    rows = parquet.read_table(event_logs / f"{name}.parquet", columns=["ts", "user_id", "item_id", "event"])
    events = [
        Event(user_id=row["user_id"], item_id=row["item_id"], type=row["event"], timestamp_ms=row["ts"] * 1_000)
        for row in rows.slice(0, 60_000 if name == "globo_u10" else None).to_pylist()
    ]
    judge = PrequentialEvaluator(
        EvaluationSettings(),
        RankingSettings(),
        StateSettings(),
        {},
        burn_in_events=int(burn_in_fraction * len(events)),
    )
    judge.observe_fresh(events, [[]] * len(events))
    whole = judge.whole()
    assert {method: whole[method]["hr@10"] for method in expected} == pytest.approx(expected, abs=0.006)
    assert whole["model"]["hr@10"] == 0.0
