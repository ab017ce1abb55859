"""deploy/compose.yaml: a valid Compose file whose paths, settings, versions and addresses are those of the project."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_rec.config import Settings
from stream_rec.errors import SettingsError
from stream_rec.settings_file import load_settings, load_with_origins

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

PINNED = re.compile(r"^[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?$")


def schema_errors(path: Path) -> str:
    """What the Compose Specification's own schema, which check-jsonschema carries, says against a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def missing_paths(compose: dict[str, Any], folder: Path) -> list[str]:
    """Host paths that a file in ``folder`` builds from or mounts, and that do not exist."""
    paths = []
    for service in compose["services"].values():
        if build := service.get("build"):
            context = folder / build["context"]
            paths += [context, context / build["dockerfile"]]
        sources = [mount.split(":")[0] for mount in service.get("volumes", [])]
        paths += [folder / source for source in sources if source.startswith((".", "/"))]
    return [str(path) for path in paths if not path.exists()]


def unpinned(compose: dict[str, Any]) -> list[str]:
    return [service["image"] for service in compose["services"].values() if not PINNED.match(service["image"])]


def open_to_the_network(compose: dict[str, Any]) -> list[str]:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    return [port for port in ports if not port.startswith("127.0.0.1:")]


def broken_waits(compose: dict[str, Any]) -> list[str]:
    """Waits for a service that is not there, or for the health of one that does not tell it."""
    services = compose["services"]
    return [
        f"{name} waits for {other}"
        for name, service in services.items()
        for other, wait in service.get("depends_on", {}).items()
        if other not in services
        or (
            wait["condition"] == "service_healthy"
            and "healthcheck" not in services[other] | from_dockerfile(services[other])
        )
    ]


def from_dockerfile(service: dict[str, Any]) -> dict[str, Any]:
    built = "build" in service and "HEALTHCHECK" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    return {"healthcheck": {}} if built else {}


def unknown_volumes(compose: dict[str, Any]) -> list[str]:
    mounts = [mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])]
    return [name for name in mounts if not name.startswith((".", "/")) and name not in compose.get("volumes", {})]


CHECKS: list[Callable[[dict[str, Any]], list[str]]] = [
    lambda compose: missing_paths(compose, DEPLOY),
    unpinned,
    open_to_the_network,
    broken_waits,
    unknown_volumes,
]


def published(service: str) -> dict[str, str]:
    """Port on the host → port in the container."""
    return dict(port.split(":")[1:] for port in SERVICES[service]["ports"])


def listeners(key: str) -> dict[str, str]:
    return dict(listener.split("://") for listener in SERVICES["kafka"]["environment"][key].split(","))


def test_the_schema_of_compose_accepts_it() -> None:
    assert schema_errors(DEPLOY / "compose.yaml") == ""


def test_the_schema_refuses_what_is_wrong(tmp_path: Path) -> None:
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["worker"]["depend_on"] = broken["services"]["worker"].pop("depends_on")
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump(broken), encoding="utf-8")
    assert "depend_on" in schema_errors(path)


def test_paths_images_ports_waits_and_volumes_are_sound() -> None:
    assert [finding for check in CHECKS for finding in check(COMPOSE)] == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s["worker"]["build"].update(dockerfile="Dockerfile"), id="dockerfile is not there"),
        pytest.param(lambda s: s["worker"]["volumes"].append("./wroker.toml:/x:ro"), id="mounted file is not there"),
        pytest.param(lambda s: s["grafana"].update(image="grafana/grafana"), id="no tag"),
        pytest.param(lambda s: s["grafana"].update(image="grafana/grafana:latest"), id="moving tag"),
        pytest.param(lambda s: s["kafka"].update(ports=["9092:29092"]), id="open to the network"),
        pytest.param(lambda s: s["worker"]["depends_on"].update(kafak={"condition": "service_started"}), id="typo"),
        pytest.param(lambda s: s["kafka"].pop("healthcheck"), id="waits for a health that nobody tells"),
        pytest.param(lambda s: s["kafka"]["volumes"].append("kafka-logs:/logs"), id="volume is not declared"),
    ],
)
def test_what_is_unsound_is_found(change: Callable[[dict[str, Any]], object]) -> None:
    broken = copy.deepcopy(COMPOSE)
    change(broken["services"])
    assert [finding for check in CHECKS for finding in check(broken)]


def test_the_workers_settings_load_and_each_arrives() -> None:
    environ = SERVICES["worker"]["environment"]
    loaded = load_with_origins(DEPLOY / "worker.toml", environ=environ)
    from_environment = {key for key, origin in loaded.origins.items() if "worker.toml" not in origin}
    assert len(environ) == 4
    assert from_environment == {name.removeprefix("STREAM_REC_").replace("__", ".").lower() for name in environ}


def test_a_misspelt_setting_would_be_refused() -> None:
    environ = SERVICES["worker"]["environment"] | {"STREAM_REC_KAFKA__BOOTSTRAP_SERVER": "kafka:9092"}
    with pytest.raises(SettingsError, match="bootstrap_servers"):
        load_settings(DEPLOY / "worker.toml", environ=environ)


def test_the_worker_reads_the_file_that_is_mounted() -> None:
    command = SERVICES["worker"]["command"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["worker"]["volumes"])
    assert command[:2] == ["run", "--config"]
    assert mounts["./worker.toml"] == command[2]


def test_snapshots_lie_on_the_volume() -> None:
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["worker"]["volumes"])
    settings = load_settings(DEPLOY / "worker.toml", environ=SERVICES["worker"]["environment"])
    assert str(settings.snapshot.directory) == mounts["snapshots"]


def test_kafka_is_the_version_that_the_tests_run_on() -> None:
    pom = ElementTree.parse(DEPLOY / "kafka" / "pom.xml")
    version = pom.findtext(".//{*}properties/{*}kafka.version")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_the_worker_knocks_at_kafkas_door_inside_the_network() -> None:
    settings = load_settings(DEPLOY / "worker.toml", environ=SERVICES["worker"]["environment"])
    inside = SERVICES["kafka"]["environment"]["KAFKA_INTER_BROKER_LISTENER_NAME"]
    assert settings.kafka.bootstrap_servers == [listeners("KAFKA_ADVERTISED_LISTENERS")[inside]]
    host, port = settings.kafka.bootstrap_servers[0].split(":")
    assert host in SERVICES
    assert listeners("KAFKA_LISTENERS")[inside] == f":{port}"


def test_a_worker_on_the_host_finds_kafka_with_the_defaults() -> None:
    advertised = listeners("KAFKA_ADVERTISED_LISTENERS")["HOST"]
    assert [advertised] == Settings().kafka.bootstrap_servers
    host_port = advertised.split(":")[1]
    assert listeners("KAFKA_LISTENERS")["HOST"] == f":{published('kafka')[host_port]}"


def test_every_listener_has_a_protocol() -> None:
    assert set(listeners("KAFKA_LISTENERS")) == {
        entry.split(":")[0]
        for entry in SERVICES["kafka"]["environment"]["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")
    }


def test_the_worker_shows_its_telemetry_to_prometheus_and_to_the_host() -> None:
    settings = load_settings(DEPLOY / "worker.toml", environ=SERVICES["worker"]["environment"])
    assert settings.telemetry.host == "0.0.0.0"
    assert published("worker") == {str(settings.telemetry.port): str(settings.telemetry.port)}


def test_a_stop_leaves_time_for_a_publish_that_waits_for_the_broker() -> None:
    grace_s = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_s * 1_000 >= Settings().kafka.max_block_ms
