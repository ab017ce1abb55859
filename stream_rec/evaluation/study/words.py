"""What a study says in words: the sentences and headings that every view shares."""

from __future__ import annotations

from stream_rec.evaluation.study.choices import TOP
from stream_rec.evaluation.study.figures import MethodFigures, StreamFigures
from stream_rec.evaluation.study.gains import MAX_WEIGHT
from stream_rec.evaluation.study.intervals import LEVEL, NUM_BLOCKS, NUM_DRAWS, Interval
from stream_rec.evaluation.study.plan import LIST, OFF_POLICY, RERANK

HEADINGS = {
    "hr@10": "HR@10",
    "hr@20": "HR@20",
    "ndcg@10": "NDCG@10",
    "mrr@20": "MRR@20",
    "coverage@10": "coverage@10",
    "personalisation@10": "personalisation@10",
    "hr@1": "HR@1",
    "hr@5": "HR@5",
    "mrr": "MRR",
    "snips": "SNIPS",
    "ips": "IPS",
    "mean weight": "mean weight",
}
PROTOCOL = (
    "In time order, test then learn: for each event all items seen so far in the stream are ranked with the state of "
    "just before it; the first tenth of the log is learnt from and not scored; an item that the stream has not shown "
    "is a miss; where repeats are left out, only events on items new to their user are scored."
)
INTERVALS = (
    f"Intervals hold {LEVEL:.0%} of {NUM_DRAWS:,} bootstrap draws of {NUM_BLOCKS} blocks of time. A difference is "
    "taken event by event against the model on the same draws; with several seeds, every event's mean over them."
)


MODES = {
    LIST: "",
    RERANK: "Asked is the order of the items that were shown with each event; those that a method does not know "
    "follow as they were shown.",
    OFF_POLICY: f"Judged is a policy that draws one of the first {TOP} actions of a method's order, each as likely "
    f"(uniform: one of all), by what the logging policy's draws earned, weighed by inverse propensity, at most "
    f"{MAX_WEIGHT:.0f}; SNIPS divides by the sum of the weights, whose mean should be near 1.",
}


def verdict(stream: StreamFigures) -> str:
    """Whether the model beats the best baseline of a stream, in one plain sentence."""
    model, rival = stream.model(), stream.best_baseline()
    if not stream.num_scored:
        return "Nothing was scored: every event fell into the burn-in, weighs nothing, or was a repeat."
    if model is None:
        return "The model was not run here."
    if rival is None or rival.difference is None:
        return "No baseline was run beside the model."
    lead = lead_over(rival, stream.decides)
    sure = f"lead {lead.value:+.4f}, interval {lead.low:+.4f} to {lead.high:+.4f}"
    ours, theirs = model.accuracy[stream.decides].value, rival.accuracy[stream.decides].value
    figures = f"{HEADINGS[stream.decides]} {ours:.4f} against {theirs:.4f} ({sure})"
    if lead.low > 0:
        return f"The model beats every baseline; the best is {rival.title}: {figures}."
    if lead.high < 0:
        return f"The model loses to {rival.title}: {figures}."
    return f"The model and the best baseline, {rival.title}, cannot be told apart: {figures}."


def lead_over(method: MethodFigures, metric: str) -> Interval:
    """The model minus the method."""
    assert method.difference is not None
    value, low, high = method.difference[metric]
    return Interval(-value, -high, -low)


def sizes(stream: StreamFigures) -> str:
    """How long the stream is and how much of it counts."""
    rejected = f", {stream.num_rejected:,} rows could not be used" if stream.num_rejected else ""
    return f"{stream.num_events:,} events, {stream.num_scored:,} scored{rejected}"
