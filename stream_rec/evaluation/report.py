"""What a replay came to: for a person as a table, for a machine as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

MODEL = "model"
COLUMNS = {
    "hr@10": "HR@10",
    "hr@20": "HR@20",
    "ndcg@10": "NDCG@10",
    "mrr@20": "MRR@20",
    "coverage@10": "coverage\n@10",
    "personalisation@10": "personal.\n@10",
}
DECIDES = "ndcg@10"  # finer than a hit rate: it also sees where in the list the hit is


@dataclass(frozen=True)
class ReplayReport:
    """Figures of one replay.

    ``methods`` is method → metric → value, as ``PrequentialEvaluator.whole`` gives it. ``wall_s`` and ``cpu_s`` are
    the time that the loop took, baselines included; ``rejected`` is reason → records; ``lists`` says which lists were
    scored, ``fresh`` or ``published``; ``num_events`` counts events that were taken, ``num_burn_in`` how many of
    them come before anything is scored, ``num_scored`` those after them that counted for the metrics.
    """

    streams: list[str]
    num_events: int
    num_scored: int
    methods: dict[str, dict[str, float]]
    wall_s: float
    cpu_s: float
    seed: int
    version: str
    lists: str = "fresh"
    allow_repeats: bool = False
    num_burn_in: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """Events per second of wall time; 0.0 where no time passed."""
        return self.num_events / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def events_per_cpu_s(self) -> float:
        """Events per second of processor time, of all cores together; 0.0 where none was used."""
        return self.num_events / self.cpu_s if self.cpu_s > 0 else 0.0

    def best_baseline(self, metric: str = DECIDES) -> str | None:
        """Name of the best method that is not the model; None where only the model was measured."""
        baselines = [method for method in self.methods if method != MODEL]
        return max(baselines, key=lambda method: self.methods[method][metric], default=None)

    @property
    def beats_baselines(self) -> bool:
        """True where events were scored and the model's NDCG@10 is above that of every baseline measured."""
        best = self.best_baseline()
        return self.num_scored > 0 and best is not None and self.methods[MODEL][DECIDES] > self.methods[best][DECIDES]

    def verdict(self) -> str:
        """Whether the model beats the best baseline, in one plain sentence."""
        best = self.best_baseline()
        if not self.num_scored:
            return "Nothing was scored: every event fell into the burn-in, weighs nothing, or was a repeat."
        if best is None:
            return "No baseline was measured beside the model."
        model, rival = self.methods[MODEL][DECIDES], self.methods[best][DECIDES]
        if model == rival:
            return f"The model and the best baseline, {best}, are level: NDCG@10 {model:.4f}."
        does = "beats" if self.beats_baselines else "does not beat"
        change = f" ({model / rival - 1:+.1%})" if rival else ""
        return f"The model {does} the best baseline, {best}: NDCG@10 {model:.4f} against {rival:.4f}{change}."

    def to_json(self) -> str:
        """One JSON object with every field, the rates and the verdict."""
        derived = {
            "events_per_s": self.events_per_s,
            "events_per_cpu_s": self.events_per_cpu_s,
            "best_baseline": self.best_baseline(),
            "verdict": self.verdict(),
        }
        return json.dumps({**asdict(self), **derived}, indent=2, ensure_ascii=False, allow_nan=False, default=str)

    def render(self, console: Console) -> None:
        """Print the table, the best of each column highlighted, and the sentences under it."""
        console.print(Group(self._table(), *self._sentences()))

    def _table(self) -> Table:
        # Narrow: in the 80 columns of a pipe or a small terminal, rich would cut figures to "0.60…".
        table = Table(
            title=Text(" + ".join(self.streams), style="bold"),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=0,
        )
        table.add_column("method", no_wrap=True)
        for title in (*COLUMNS.values(), "events/s"):
            table.add_column(title, justify="right", no_wrap=True)
        best = {metric: max((values[metric] for values in self.methods.values()), default=0.0) for metric in COLUMNS}
        for method in sorted(self.methods, key=lambda method: method != MODEL):
            values = self.methods[method]
            cells = [_cell(values[metric], is_best=values[metric] == best[metric] > 0) for metric in COLUMNS]
            # The loop is one: its speed is the model's with all baselines beside it, not one of each.
            rate = Text(f"{self.events_per_s:,.0f}" if method == MODEL else "")
            table.add_row(Text(method, style="bold" if method == MODEL else ""), *cells, rate)
        return table

    def _sentences(self) -> list[Text]:
        taken = (
            f"{self.num_events:,} events, {self.num_scored:,} scored ({self.lists} lists, "
            f"repeats {'allowed' if self.allow_repeats else 'left out'}) in {self.wall_s:,.1f} s: "
            f"{self.events_per_s:,.0f} events/s, {self.events_per_cpu_s:,.0f} per CPU-second."
        )
        sentences = [Text(self.verdict(), style="bold green" if self.beats_baselines else "bold yellow"), Text(taken)]
        if self.rejected:
            reasons = ", ".join(f"{reason} {number:,}" for reason, number in sorted(self.rejected.items()))
            sentences.append(Text(f"{sum(self.rejected.values()):,} records rejected: {reasons}.", style="yellow"))
        sentences.append(Text(f"stream-rec {self.version}, seed {self.seed}.", style="dim"))
        return sentences


def _cell(value: float, *, is_best: bool) -> Text:
    return Text(f"{value:.4f}", style="bold green" if is_best else "")
