"""What a study says in words: the sentences and headings that every view shares."""

from __future__ import annotations

from stream_rec.evaluation.ranking_metrics import METRICS
from stream_rec.evaluation.study.figures import DECIDES, MethodFigures, StreamFigures
from stream_rec.evaluation.study.intervals import LEVEL, NUM_BLOCKS, NUM_DRAWS, Interval

HEADINGS = {
    "hr@10": "HR@10",
    "hr@20": "HR@20",
    "ndcg@10": "NDCG@10",
    "mrr@20": "MRR@20",
    "coverage@10": "coverage@10",
    "personalisation@10": "personalisation@10",
}
assert tuple(HEADINGS) == METRICS
PROTOCOL = (
    "In time order, test then learn: for each event all items seen so far in the stream are ranked with the state of "
    "just before it; the first tenth of the log is learnt from and not scored; an item that the stream has not shown "
    "is a miss; where repeats are left out, only events on items new to their user are scored."
)
INTERVALS = (
    f"Intervals hold {LEVEL:.0%} of {NUM_DRAWS:,} bootstrap draws of {NUM_BLOCKS} blocks of time. A difference is "
    "taken event by event against the model on the same draws; with several seeds, every event's mean over them."
)


def verdict(stream: StreamFigures) -> str:
    """Whether the model beats the best baseline of a stream, in one plain sentence."""
    model, rival = stream.model(), stream.best_baseline()
    if not stream.num_scored:
        return "Nothing was scored: every event fell into the burn-in, weighs nothing, or was a repeat."
    if model is None:
        return "The model was not run here."
    if rival is None or rival.difference is None:
        return "No baseline was run beside the model."
    lead = lead_over(rival)
    sure = f"lead {lead.value:+.4f}, interval {lead.low:+.4f} to {lead.high:+.4f}"
    ours, theirs = model.accuracy[DECIDES].value, rival.accuracy[DECIDES].value
    figures = f"NDCG@10 {ours:.4f} against {theirs:.4f} ({sure})"
    if lead.low > 0:
        return f"The model beats every baseline; the best is {rival.title}: {figures}."
    if lead.high < 0:
        return f"The model loses to {rival.title}: {figures}."
    return f"The model and the best baseline, {rival.title}, cannot be told apart: {figures}."


def lead_over(method: MethodFigures, metric: str = DECIDES) -> Interval:
    """The model minus the method."""
    assert method.difference is not None
    value, low, high = method.difference[metric]
    return Interval(-value, -high, -low)


def sizes(stream: StreamFigures) -> str:
    """How long the stream is and how much of it counts."""
    rejected = f", {stream.num_rejected:,} rows could not be used" if stream.num_rejected else ""
    return f"{stream.num_events:,} events, {stream.num_scored:,} scored{rejected}"
