"""A real Apache Kafka broker on 127.0.0.1, without Docker: for the tests and for people who try things out.

Needs a Java 17 (or newer) runtime and Maven; the standard library is enough for Python. Maven resolves the jars that
``pom.xml`` names into ``target/`` once, Kafka's own StorageTool formats the directory, ``kafka.Kafka`` serves it.

    python deploy/kafka/broker.py --port 9092 --directory var/kafka
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import string
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
HEAP_MB = 512
LOGGER = "org.slf4j.simpleLogger"

# The shell keeps the JVM's life tied to ours: its stdin is a pipe that only we hold, so that whatever ends this
# process, SIGKILL included, closes the pipe, and the guard stops the broker. Nothing is left behind. A signal's name
# written into the pipe is sent instead; the shell ends when the JVM is gone, so that its ports are free again.
GUARD = """
exec 3<&0
"$@" 3<&- </dev/null & jvm=$!
( read how <&3 || how=TERM; kill -$how $jvm ) 2>/dev/null & guard=$!
wait $jvm; code=$?
kill $guard 2>/dev/null
exit $code
"""


class BrokerNotStarted(RuntimeError):  # noqa: N818 - reads as the sentence that it is
    """The broker cannot be started; the text says what is missing, or ends with the tail of the log."""


class Broker:
    """One KRaft node in ``directory``.

    ``port`` and ``controller_port`` of 0 take free ones at the first start and keep them, so that a broker that was
    stopped or killed can be started again where its clients look for it. ``overrides`` are broker properties.
    """

    def __init__(
        self,
        directory: Path | str,
        port: int = 0,
        controller_port: int = 0,
        overrides: Mapping[str, object] | None = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.port = port
        self.controller_port = controller_port
        self.overrides = dict(overrides or {})
        self.log_file = self.directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> list[str]:
        """``host:port`` of the one node, as clients take it."""
        assert self.port, "a broker has no address before its first start"
        return [f"127.0.0.1:{self.port}"]

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Format the directory if it is new, start the node, wait until it answers.

        Raises BrokerNotStarted where Java, Maven or the jars are missing, a port is taken, or the node does not answer.
        """
        assert self._process is None, "the broker runs already"
        java = _tool("java", "a Java 17 runtime (Debian: apt-get install openjdk-17-jre-headless)")
        jars = resolve_jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_ports()
        properties = self._write_properties()
        command = [java, f"-Xmx{HEAP_MB}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += [f"-D{LOGGER}.showDateTime=true", f"-D{LOGGER}.dateTimeFormat=HH:mm:ss.SSS"]
        command += ["-cp", os.pathsep.join(sorted(str(jar) for jar in jars.glob("*.jar")))]
        if not (self.directory / "data" / "meta.properties").exists():
            self._format([*command, "kafka.tools.StorageTool", "format", "-c", str(properties), "-t", _cluster_id()])
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "broker", *command, "kafka.Kafka", str(properties)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle: the broker must shut down after its clients
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut down in order, as an operator would; killed where that takes longer than half a minute. Idempotent."""
        self._end(b"")

    def kill(self) -> None:
        """SIGKILL, as a crash would. Idempotent."""
        self._end(b"KILL\n")

    def _end(self, message: bytes) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(message)
            process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def returncode(self) -> int | None:
        """Exit status of the node's process, None while it runs."""
        return self._process.poll() if self._process else 0

    def _take_ports(self) -> None:
        with contextlib.ExitStack() as held:
            for name in ("port", "controller_port"):
                try:
                    taken = held.enter_context(socket.create_server(("127.0.0.1", getattr(self, name))))
                except OSError as error:
                    raise BrokerNotStarted(
                        f"{name} {getattr(self, name)} of the broker cannot be taken: {error}. Another broker runs "
                        "there, or another program listens on it: stop that, or give another port."
                    ) from error
                setattr(self, name, taken.getsockname()[1])

    def _write_properties(self) -> Path:
        template = string.Template((HERE / "broker.properties").read_text("utf-8"))
        text = template.substitute(
            port=self.port, controller_port=self.controller_port, data=(self.directory / "data").as_posix()
        )
        text += "".join(f"{key}={value}\n" for key, value in self.overrides.items())
        path = self.directory / "broker.properties"
        path.write_text(text, "utf-8")
        return path

    def _format(self, command: list[str]) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise BrokerNotStarted(
                f"Kafka's StorageTool could not format {self.directory} (exit {done.returncode}):\n"
                + _tail(done.stdout.decode("utf-8", "replace"))
            )

    def _wait_until_it_answers(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not knows_a_broker("127.0.0.1", self.port):
            code = self.returncode()
            if code is not None or time.monotonic() > deadline_s:
                why = f"ended with exit status {code}" if code is not None else f"did not answer in {START_TIMEOUT_S} s"
                raise BrokerNotStarted(
                    f"The broker in {self.directory} {why}. The end of {self.log_file}:\n"
                    + _tail(self.log_file.read_text("utf-8", "replace"))
                )
            time.sleep(0.1)


def resolve_jars() -> Path:
    """The folder with the broker's jars, filled by Maven where this ``pom.xml`` has not been resolved yet.

    Safe to call from several processes at once: one resolves, the others wait; a run that is cut off leaves no
    half-filled folder that the next one would trust.
    """
    pom = HERE / "pom.xml"
    target = HERE / "target"
    jars = target / f"jars-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if jars.exists():
        return jars
    target.mkdir(exist_ok=True)
    with _locked(target / "lock"):
        if jars.exists():
            return jars
        mvn = _tool("mvn", "Maven 3.6 or newer (Debian: apt-get install maven)")
        partial = target / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [mvn, "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise BrokerNotStarted(
                f"Maven could not resolve the jars that {pom} names (exit {done.returncode}):\n"
                + _tail(done.stdout.decode("utf-8", "replace"))
            )
        partial.rename(jars)
    return jars


def knows_a_broker(host: str, port: int) -> bool:
    """Whether a Metadata request (version 4) is answered with at least one live broker.

    An open port is not enough: a KRaft node listens before its controller has let it serve.
    """
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection((host, port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(16, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 16 and struct.unpack(">iiii", answer)[3] > 0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tool(name: str, install: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BrokerNotStarted(f"The broker needs `{name}`, which is not on the PATH: install {install}.")
    return found


def _cluster_id() -> str:
    # StorageTool reads a leading dash as an option.
    return "k" + base64.urlsafe_b64encode(os.urandom(16)).decode("ascii").rstrip("=")[1:]


def _tail(text: str, num_lines: int = 30) -> str:
    return "\n".join("    " + line for line in text.splitlines()[-num_lines:])


def main() -> int:
    """Serve in the foreground until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="A real Apache Kafka broker on 127.0.0.1, without Docker.")
    parser.add_argument("--port", type=int, default=9092, help="port of the broker; 0 takes a free one")
    parser.add_argument("--controller-port", type=int, default=0, help="port of the controller; 0 takes a free one")
    parser.add_argument("--directory", type=Path, default=Path("var/kafka"), help="where its log and topics lie")
    arguments = parser.parse_args()
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    broker = Broker(arguments.directory, arguments.port, arguments.controller_port)
    try:
        broker.start()
    except BrokerNotStarted as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"Apache Kafka answers on {broker.bootstrap_servers[0]} (log: {broker.log_file}); Ctrl-C stops it.\n"
    )
    sys.stdout.flush()
    while not asked_to_stop.wait(0.2):
        if (code := broker.returncode()) is not None:
            sys.stderr.write(f"The broker ended by itself, exit status {code}; see {broker.log_file}.\n")
            return 1
    broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
