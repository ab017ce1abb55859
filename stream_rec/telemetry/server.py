"""`/metrics`, `/healthz` and `/readyz` over HTTP, on threads of their own."""

from __future__ import annotations

import errno
import json
import socket
import socketserver
from collections.abc import Iterable
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from stream_rec.errors import SettingsError
from stream_rec.telemetry.health import Health

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

JSON = (("Content-Type", "application/json; charset=utf-8"), ("Cache-Control", "no-store"))


class _QuietHandler(WSGIRequestHandler):
    # A client that opens a connection and says nothing must not hold a thread for ever.
    timeout = 10.0

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""


class _ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, family: socket.AddressFamily) -> None:
        self.address_family = family
        super().__init__((host, port), _QuietHandler)

    def server_bind(self) -> None:
        # HTTPServer's own bind looks the host's name up in DNS, which can hang the start for seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to do: the client went away, and the next scrape comes by itself."""


class TelemetryServer:
    """Serves one registry and one ``Health``.

    ``port`` 0 takes a free port; the attribute ``port`` tells which. `/metrics` speaks the Prometheus text
    formats and OpenMetrics, whichever the client accepts. `/healthz` and `/readyz` answer 200 or 503 with
    ``{"ok": …, "reason": …}``. Raises SettingsError from the constructor where host or port cannot be had.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, health: Health) -> None:
        self._metrics_app: WSGIApplication = make_wsgi_app(registry)
        self._health = health
        self._server = _bind(host, port)
        self._server.set_app(self._answer)
        self._thread: Thread | None = None
        self.host = host
        self.port = self._server.server_port

    def start(self) -> None:
        """Serve from a daemon thread until ``close``."""
        assert self._thread is None, "started twice"
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="telemetry", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port. Idempotent."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _reply(start_response, "405 Method Not Allowed", False, "only GET and HEAD are answered")
        if path == "/metrics":
            return self._metrics_app(environ, start_response)
        if path not in ("/healthz", "/readyz"):
            return _reply(start_response, "404 Not Found", False, "there is /metrics, /healthz and /readyz")
        ok, reason = self._health.alive() if path == "/healthz" else self._health.ready()
        return _reply(start_response, "200 OK" if ok else "503 Service Unavailable", ok, reason)


def _reply(start_response: StartResponse, status: str, ok: bool, reason: str) -> Iterable[bytes]:
    headers = list(JSON)  # a fresh one each time: wsgiref adds the length to the list that it is given
    if status.startswith("405"):
        headers.append(("Allow", "GET, HEAD"))
    start_response(status, headers)
    return [json.dumps({"ok": ok, "reason": reason}).encode() + b"\n"]


def _bind(host: str, port: int) -> _ThreadingServer:
    """A listening server, or a SettingsError that names the setting to change."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return _ThreadingServer(host, port, family)
    except socket.gaierror as error:
        raise SettingsError(f"telemetry.host: cannot resolve {host!r}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise SettingsError(f"telemetry.host: {host!r} is no address of this machine") from error
        why = {
            errno.EADDRINUSE: "is in use by another process",
            errno.EACCES: "needs more rights than this process has",
        }
        text = why.get(error.errno or 0, f"cannot be had: {error.strerror}")
        raise SettingsError(f"telemetry.port: {host}:{port} {text}; choose another, or 0 for a free one") from error
