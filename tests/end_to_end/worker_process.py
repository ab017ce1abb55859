"""``stream-rec run`` as a process of its own, watched as an operator would: its log, `/metrics`, the health pages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

WAIT_S = 180.0


def wait_until(happened: Callable[[], Any], what: str, every_s: float = 0.1) -> Any:
    """What ``happened`` answers as soon as it is true; fails with ``what`` after three minutes."""
    deadline_s = time.monotonic() + WAIT_S
    while not (answer := happened()):
        assert time.monotonic() < deadline_s, f"waited {WAIT_S:.0f} s in vain: {what}"
        time.sleep(every_s)
    return answer


class WorkerProcess:
    """One life of one worker; ``overrides`` are ``--set``. Its log goes to a file in ``folder``."""

    def __init__(self, config: Path, folder: Path, name: str, life: int = 1, **overrides: str) -> None:
        self.name = name
        self._log_file = folder / f"{name}-{life}.log"
        options = {"worker.name": name, "telemetry.port": "0", "telemetry.log_format": "json", **overrides}
        arguments = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAM_REC_")}
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stream_rec", "run", "--config", str(config), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.url = wait_until(self._find_url, f"{name} opens its pages")

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it has logged so far."""
        for line in self._log_file.read_text("utf-8").splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log lines of that name."""
        return [line for line in self.lines() if line["event"] == event]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        self._still_runs()
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready(self) -> tuple[int, str]:
        """Status of `/readyz`, and the reason it gives."""
        status, body = self.get("/readyz")
        return status, json.loads(body)["reason"]

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Every sample on `/metrics`."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric over the series that carry these labels."""
        return sum(
            value
            for found, its_labels, value in self.samples()
            if found == f"stream_rec_{name}" and labels.items() <= its_labels.items()
        )

    def partitions(self) -> set[int]:
        """Those that it reads, by the lag that it shows."""
        lag = "stream_rec_consumer_lag_records"
        return {int(labels["partition"]) for name, labels, _ in self.samples() if name == lag}

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self._still_runs()
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(WAIT_S)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _find_url(self) -> str | None:
        self._still_runs()
        found = re.search(r"(http://127\.0\.0\.1:\d+)/metrics", self._log_file.read_text("utf-8"))
        return found and found[1]

    def _still_runs(self) -> None:
        code = self._process.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self._log_file.read_text('utf-8')[-4_000:]}"
