"""Prometheus and Grafana: they scrape the worker's port, and every query asks for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import pytest
import yaml

from stream_rec.config import Settings
from stream_rec.telemetry.metrics import DRAWN, OUTCOMES, SNAPSHOT_OUTCOMES, MetricInfo, catalogue

DEPLOY = Path(__file__).parents[2] / "deploy"


def read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


SERVICES = read_yaml("compose.yaml")["services"]
PROMETHEUS = read_yaml("prometheus/prometheus.yml")
RULES = [rule for group in read_yaml("prometheus/rules.yml")["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "stream-rec.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

TARGET_LABELS = frozenset({"instance", "job"})  # Prometheus adds them to whatever it scrapes
OTHERS = {"up": (), "process_resident_memory_bytes": (), "process_cpu_seconds_total": ()}
LABEL_VALUES = {
    ("stream_rec_events_total", "outcome"): OUTCOMES,
    ("stream_rec_list_places_total", "drawn"): DRAWN,
    ("stream_rec_snapshots_total", "outcome"): SNAPSHOT_OUTCOMES,
}


class Query(NamedTuple):
    """One PromQL expression, where it stands, and the labels that its legend or text shows."""

    place: str
    expr: str
    shown: frozenset[str]


def series_of(metric: MetricInfo) -> Iterator[tuple[str, frozenset[str]]]:
    """(series name, labels) that Prometheus stores for one metric."""
    labels = frozenset(metric.labels) | TARGET_LABELS
    if metric.type == "histogram":
        yield f"{metric.name}_bucket", labels | {"le"}
        yield f"{metric.name}_sum", labels
        yield f"{metric.name}_count", labels
    else:
        yield metric.name, labels


SERIES = {name: labels for metric in catalogue() for name, labels in series_of(metric)} | {
    name: TARGET_LABELS | frozenset(labels) for name, labels in OTHERS.items()
}


def nodes(expr: str) -> list[Any]:
    """Every node of a parsed expression; raises ValueError where it is no PromQL."""
    # Grafana's variables become a value of their kind before the expression reaches Prometheus.
    text = expr.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$k", "10")
    found: list[Any] = []
    promql.walk(promql.parse(text), lambda node: found.append(node))
    return found


def problems_of(query: Query) -> list[str]:
    """Unknown metrics, labels and label values of one query, and a legend that shows a label nothing has."""
    try:
        every = nodes(query.expr)
    except ValueError as error:
        return [f"{query.place}: {error}"]
    selectors = [node for node in every if isinstance(node, promql.VectorSelector)]
    known = frozenset().union(*(SERIES.get(selector.name, frozenset()) for selector in selectors))
    problems = [f"no such metric: {selector.name}" for selector in selectors if selector.name not in SERIES]
    for selector in selectors:
        for matcher in selector.matchers.matchers:
            if matcher.name not in SERIES.get(selector.name, ()):
                problems.append(f"{selector.name} has no label {matcher.name}")
            values = LABEL_VALUES.get((selector.name, matcher.name))
            if values is not None and matcher.op == promql.MatchOp.Equal and matcher.value not in values:
                problems.append(f"{selector.name}: {matcher.name} is never {matcher.value}")
    grouped = [node.modifier.labels for node in every if isinstance(node, promql.AggregateExpr) and node.modifier]
    problems += [
        f"groups by {label}, which nothing has" for labels in grouped for label in labels if label not in known
    ]
    aggregated = any(isinstance(node, promql.AggregateExpr) for node in every)
    left = frozenset(label for labels in grouped for label in labels) if aggregated else known
    problems += [f"shows {label}, which is not left" for label in query.shown - left]
    return [f"{query.place}: {problem}" for problem in problems]


def panel_queries() -> list[Query]:
    return [
        Query(panel["title"], target["expr"], frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"])))
        for panel in PANELS
        for target in panel["targets"]
    ]


def rule_queries() -> list[Query]:
    shown = [frozenset(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) for rule in RULES]
    return [Query(rule["alert"], rule["expr"], labels) for rule, labels in zip(RULES, shown, strict=True)]


@pytest.mark.parametrize("query", [*panel_queries(), *rule_queries()], ids=lambda query: query.place)
def test_a_query_asks_for_what_exists(query: Query) -> None:
    assert problems_of(query) == []


@pytest.mark.parametrize(
    ("expr", "shown", "problem"),
    [
        ("sum(rate(stream_rec_event_total[1m]))", (), "no such metric"),
        ("stream_rec_freshness_seconds", (), "no such metric"),
        ('stream_rec_events_total{kind="view"}', (), "has no label kind"),
        ('stream_rec_events_total{outcome="learned"}', (), "is never learned"),
        ("sum by (reason) (stream_rec_events_total)", (), "groups by reason"),
        ("sum by (le) (rate(stream_rec_freshness_seconds_sum[1m]))", (), "groups by le"),
        ("sum by (type) (stream_rec_events_total)", ("outcome",), "shows outcome"),
        ("sum(stream_rec_events_total)", ("type",), "shows type"),
        ("stream_rec_loss", ("part",), "shows part"),
        ("rate(stream_rec_events_total)", (), "rate"),
        ("sum(stream_rec_loss", (), "unclosed"),
    ],
)
def test_a_query_for_what_does_not_exist_is_found(expr: str, shown: tuple[str, ...], problem: str) -> None:
    problems = problems_of(Query("here", expr, frozenset(shown)))
    assert any(problem in text for text in problems), problems


def test_the_variables_of_the_dashboard_are_asked_of_what_exists() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        assert label in SERIES[metric]
    named = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$([a-z]\w*)", " ".join(query.expr for query in panel_queries())))
    assert used == named


def test_every_metric_worth_a_look_is_on_the_dashboard() -> None:
    shown = {node.name for query in panel_queries() for node in nodes(query.expr) if hasattr(node, "name")}
    unseen = [metric.name for metric in catalogue() if not shown & {name for name, _ in series_of(metric)}]
    # Which version runs is read from its labels, and changes of the catalogue are seen in the items' rows.
    assert set(unseen) <= {"stream_rec_build_info", "stream_rec_catalogue_updates_total"}


def test_panels_have_their_own_id_and_place() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (place["x"] + column, place["y"] + line)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for column in range(place["w"])
        for line in range(place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_prometheus_scrapes_the_workers_port() -> None:
    (job,) = PROMETHEUS["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in SERVICES
    assert int(port) == Settings().telemetry.port
    # Alerts and panels that name the job would be silent for ever under another name.
    named = {
        matcher.value
        for query in [*panel_queries(), *rule_queries()]
        for node in nodes(query.expr)
        if isinstance(node, promql.VectorSelector)
        for matcher in node.matchers.matchers
        if matcher.name == "job"
    }
    assert named == {job["job_name"]}


def test_prometheus_finds_its_rules() -> None:
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["prometheus"]["volumes"])
    folder = mounts["./prometheus"]
    assert f"--config.file={folder}/prometheus.yml" in SERVICES["prometheus"]["command"]
    assert PROMETHEUS["rule_files"]
    assert all((DEPLOY / "prometheus" / name).is_file() for name in PROMETHEUS["rule_files"])


def test_alerts_are_told_apart_and_say_what_to_do() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")


def test_grafana_asks_the_prometheus_of_the_compose_file() -> None:
    (source,) = read_yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    host, port = re.fullmatch(r"http://([\w-]+):(\d+)", source["url"]).groups()
    assert f"127.0.0.1:{port}:{port}" in SERVICES[host]["ports"]
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]
    asked = [DASHBOARD["templating"]["list"], PANELS, [target for panel in PANELS for target in panel["targets"]]]
    assert {each["datasource"]["uid"] for group in asked for each in group} == {source["uid"]}


def test_grafana_finds_the_dashboard() -> None:
    mounts = {target: source for source, target in (m.split(":")[:2] for m in SERVICES["grafana"]["volumes"])}
    assert (DEPLOY / mounts["/etc/grafana/provisioning"] / "datasources").is_dir()
    (provider,) = read_yaml("grafana/provisioning/dashboards/stream-rec.yml")["providers"]
    folder = DEPLOY / mounts[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(f"{provider['options']['path']}/")
    assert (folder / Path(home).name).is_file()
