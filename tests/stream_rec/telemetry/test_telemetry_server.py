"""The telemetry server, over real sockets."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from stream_rec.errors import SettingsError
from stream_rec.telemetry.health import Health
from stream_rec.telemetry.metrics import Metrics
from stream_rec.telemetry.server import TelemetryServer


class Time:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> Health:
    return Health(alive_timeout_s=10.0, ready_max_lag=5, monotonic_s=time)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def server(metrics: Metrics, health: Health) -> Iterator[TelemetryServer]:
    server = TelemetryServer("127.0.0.1", 0, metrics.registry, health)
    server.start()
    yield server
    server.close()


def ask(server: TelemetryServer, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(server.host, server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_metrics_in_the_text_format(server: TelemetryServer, metrics: Metrics):
    metrics.batches.inc(3)
    response, body = ask(server, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    families = {family.name: family for family in parse_text(body.decode())}
    assert families["stream_rec_batches"].samples[0].value == 3


def test_metrics_as_openmetrics_where_the_client_asks_for_it(server: TelemetryServer):
    response, body = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "stream_rec_batches" in {family.name for family in parse_openmetrics(body.decode())}


def test_metrics_compressed_where_the_client_can(server: TelemetryServer):
    response, body = ask(server, "/metrics", **{"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert b"stream_rec_batches_total" in gzip.decompress(body)


def test_alive(server: TelemetryServer, time: Time):
    response, body = ask(server, "/healthz")
    assert response.status == 200
    assert json.loads(body)["ok"] is True
    time.now_s = 11.0
    response, body = ask(server, "/healthz")
    assert response.status == 503
    assert "come round" in json.loads(body)["reason"]


def test_ready(server: TelemetryServer, health: Health):
    response, body = ask(server, "/readyz")
    assert response.status == 503
    assert json.loads(body) == {"ok": False, "reason": "starting: no step has been reported yet"}
    health.update(assigned=True, lag_records=0, connected=True, last_step_sound=True)
    response, body = ask(server, "/readyz")
    assert response.status == 200
    assert json.loads(body)["ok"] is True


def test_every_answer_is_whole_whatever_was_asked_before(server: TelemetryServer):
    for path in ("/healthz", "/readyz", "/nothing", "/healthz", "/readyz"):
        response, body = ask(server, path)
        assert response.headers.get_all("Content-Length") == [str(len(body))]
        assert json.loads(body)["reason"]


@pytest.mark.parametrize("path", ["/", "/metrics/", "/nothing", "/healthz/../metrics"])
def test_other_paths_are_not_found(server: TelemetryServer, path: str):
    response, body = ask(server, path)
    assert response.status == 404
    assert "/metrics" in json.loads(body)["reason"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed_through_it(server: TelemetryServer, method: str):
    response, _ = ask(server, "/metrics", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_head_has_no_body(server: TelemetryServer):
    response, body = ask(server, "/healthz", "HEAD")
    assert (response.status, body) == (200, b"")


def test_a_client_that_says_nothing_holds_nobody_up(server: TelemetryServer):
    with socket.create_connection((server.host, server.port), timeout=10):
        response, _ = ask(server, "/healthz")
    assert response.status == 200


def test_scrapes_beside_each_other(server: TelemetryServer, metrics: Metrics):
    statuses: list[int] = []
    threads = [Thread(target=lambda: statuses.append(ask(server, "/metrics")[0].status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for n in range(200):
        metrics.set_lag({("events", n % 7): n})
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8


def test_a_port_in_use_names_the_setting(server: TelemetryServer, metrics: Metrics, health: Health):
    with pytest.raises(SettingsError, match=rf"telemetry\.port: 127\.0\.0\.1:{server.port} is in use"):
        TelemetryServer("127.0.0.1", server.port, metrics.registry, health)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_ours_names_the_setting(metrics: Metrics, health: Health, host: str):
    with pytest.raises(SettingsError, match=r"telemetry\.host"):
        TelemetryServer(host, 0, metrics.registry, health)


def test_close_frees_the_port_and_may_be_repeated(metrics: Metrics, health: Health):
    server = TelemetryServer("127.0.0.1", 0, metrics.registry, health)
    server.start()
    server.close()
    server.close()
    again = TelemetryServer("127.0.0.1", server.port, metrics.registry, health)
    again.close()
