"""The broker that tests and people without Docker start: what it says when it cannot, and that it never stays on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kafka


@pytest.fixture
def module(kafka_broker: Any) -> Any:
    return sys.modules[type(kafka_broker).__module__]


def guarded(module: Any) -> subprocess.Popen[bytes]:
    """The shell that holds the broker, around a program that would run for a minute."""
    command = ["/bin/sh", "-c", module.GUARD, "broker", "sleep", "60"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def test_the_broker_ends_when_its_parent_does(module: Any) -> None:
    """Whatever ends a process closes its pipes: SIGKILL of a test run leaves no JVM."""
    held = guarded(module)
    assert held.poll() is None
    assert held.stdin is not None

    held.stdin.close()

    assert held.wait(20) == 128 + signal.SIGTERM


def test_the_broker_can_be_killed_without_any_warning(module: Any) -> None:
    held = guarded(module)

    held.communicate(b"KILL\n", timeout=20)

    assert held.returncode == 128 + signal.SIGKILL


def test_what_is_not_installed_is_named_with_how_to_install_it(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(module.BrokerNotStarted, match=r"needs `java`.*install a Java 17 runtime"):
        module.Broker(tmp_path / "kafka").start()
    monkeypatch.setattr(module, "HERE", tmp_path)
    (tmp_path / "pom.xml").write_text("<project/>", "utf-8")
    with pytest.raises(module.BrokerNotStarted, match=r"needs `mvn`.*install Maven"):
        module.resolve_jars()


def test_a_port_that_is_taken_is_named(module: Any, kafka_broker: Any, tmp_path: Path) -> None:
    with pytest.raises(module.BrokerNotStarted, match=rf"port {kafka_broker.port} of the broker cannot be taken"):
        module.Broker(tmp_path, port=kafka_broker.port).start()


def test_a_node_that_cannot_start_shows_the_end_of_its_log(module: Any, tmp_path: Path) -> None:
    broker = module.Broker(tmp_path, overrides={"process.roles": "scullion"})

    with pytest.raises(module.BrokerNotStarted, match=r"(?s)exit \d.*scullion"):
        broker.start()
    assert broker.returncode() == 0  # nothing runs


def test_an_open_port_is_not_yet_a_broker(module: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()

        assert not module.knows_a_broker("127.0.0.1", port)
