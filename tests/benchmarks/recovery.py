"""How fast lists recover from an abrupt change, with adaptation and without: one command, one table.

    python -m tests.benchmarks.recovery [--seeds 5] [--events 16000] [--set learning.replay_events=2048]

The simulated shop permutes everybody's tastes half-way, lists new goods and replaces most kits. NDCG@10 is that of the
lists of just before each event (prequential), as a mean over the newest ``WINDOW`` scored events. Level: the mean over
the ``LEVEL_EVENTS`` before the change. Dip: how far the windowed mean falls below it. Half recovered: events of the
stream from the change until the mean has made up half of the dip. Runs with and without see the same streams.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from producers.simulator import ShopSimulator, SimulatorConfig
from stream_rec.config import Settings
from stream_rec.evaluation.protocol import under_protocol
from stream_rec.learning.device import configure_torch
from stream_rec.learning.learner import Learner
from stream_rec.records import Event, ItemUpdate
from stream_rec.settings_file import load_settings

WINDOW = 500
LEVEL_EVENTS = 3_000
EARLY_EVENTS = 4_000  # after the change: their mean tells runs apart better than a crossing does
DEPTH = 10


@dataclass(frozen=True)
class Recovery:
    """Of one run."""

    level: float
    dip: float
    half_events: float  # from the change on; infinite where it never came
    early: float  # mean NDCG@10 over EARLY_EVENTS after the change
    late: float  # and over what came then


def run(settings: Settings, seed: int, num_events: int) -> Recovery:
    """Learn a stream and measure it."""
    simulator = ShopSimulator(
        SimulatorConfig(seed=seed, drift_at=num_events // 2, malformed_share=0.0, ceiling_share=0.0)
    )
    learner, batch = Learner(settings), []
    updates: list[ItemUpdate] = []
    gains = np.full(num_events, math.nan)
    num_learnt = 0
    for step in simulator.steps():
        if isinstance(step, ItemUpdate):
            updates.append(step)
            continue
        batch.append(step)
        if len(batch) == settings.worker.max_batch or num_learnt + len(batch) == num_events:
            learner.update_catalogue(updates)
            gains[num_learnt : num_learnt + len(batch)] = gains_of(learner, batch)
            num_learnt += len(batch)
            batch, updates = [], []
        if num_learnt == num_events:
            return measure(gains)
    raise AssertionError("the simulator never ends")


def gains_of(learner: Learner, events: list[Event]) -> NDArray[np.float64]:
    """NDCG@10 of each event's list, NaN where the event does not count; then it is learnt."""
    moments = learner.enter(events)
    lists = learner.rank_entered(moments)
    counts = (moments.target_weight_B > 0).tolist()
    learner.learn(moments)
    gains = np.full(len(events), math.nan)
    for index, (event, ranked) in enumerate(zip(events, lists, strict=True)):
        if counts[index]:
            hit = event.item_id in ranked[:DEPTH]
            gains[index] = 1.0 / math.log2(ranked.index(event.item_id) + 2.0) if hit else 0.0
    return gains


def measure(gains: NDArray[np.float64]) -> Recovery:
    """From NDCG@10 by event, NaN where it does not count; the change is half-way."""
    change = len(gains) // 2
    counting = np.flatnonzero(~np.isnan(gains))
    smooth = np.convolve(gains[counting], np.full(WINDOW, 1.0 / WINDOW), mode="valid")  # of windows by their last event
    ends = counting[WINDOW - 1 :]
    level = float(np.nanmean(gains[max(0, change - LEVEL_EVENTS) : change]))
    after = ends >= change
    ends, smooth = ends[after], smooth[after]
    lowest = int(np.argmin(np.where(ends < change + EARLY_EVENTS, smooth, np.inf)))
    dip = level - float(smooth[lowest])
    back = np.flatnonzero(smooth[lowest:] >= level - dip / 2)
    half_events = float(ends[lowest + back[0]] - change) if len(back) else math.inf
    early = float(np.nanmean(gains[change : change + EARLY_EVENTS]))
    return Recovery(level, dip, half_events, early, float(np.nanmean(gains[change + EARLY_EVENTS :])))


def say(line: str) -> None:
    """A line at once: a run takes a minute."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=16_000)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    if options.events <= 2 * EARLY_EVENTS:
        parser.error(f"--events {options.events}: half of it must be more than {EARLY_EVENTS}")
    say("seed  adapt  level   dip  half recovered after  NDCG@10 of the next 4,000  of the rest")
    found: dict[bool, list[Recovery]] = {True: [], False: []}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for adapt in (True, False):
            overrides = dict(text.split("=", 1) for text in options.set) | {"learning.adapt": str(adapt).lower()}
            settings = under_protocol(load_settings(None, overrides, {}), allow_repeats=False)
            configure_torch(settings.worker)
            one = run(settings, seed, options.events)
            found[adapt].append(one)
            say(
                f"{seed:4}  {'on' if adapt else 'off':>5}  {one.level:.3f}  {one.dip:.3f}  {one.half_events:>20,.0f}"
                f"  {one.early:>25.4f}  {one.late:>11.4f}"
            )
    gains = np.array([on.early - off.early for on, off in zip(found[True], found[False], strict=True)])
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    medians = [float(np.median([one.half_events for one in found[adapt]])) for adapt in (True, False)]
    say(f"half recovered, median: on {medians[0]:,.0f}, off {medians[1]:,.0f} events")
    say(f"NDCG@10 of the next {EARLY_EVENTS:,}, on - off: {gains.mean():+.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    main()
