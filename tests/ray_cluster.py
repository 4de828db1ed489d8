"""A real Ray head on this machine with the Jobs API, isolated from every other Ray that runs here."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that a busy machine may take to start Ray; only broken starts take that long.
_PATIENCE = 600.0


@contextlib.contextmanager
def head_node(cpus: int = 2) -> Iterator[str]:
    """Start a head, yield its Jobs API address once a job can be submitted, and end its processes."""
    with head_and_folder(sys.executable, environment(), cpus) as (address, _):
        yield address


@contextlib.contextmanager
def head_and_folder(python: str, variables: Mapping[str, str], cpus: int = 2) -> Iterator[tuple[str, Path]]:
    """Do the same with an interpreter and variables, and yield the folder of the head's files besides."""
    # Ray's sockets are created in it, and a socket's name must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    port, dashboard, agent, client = _free_ports(4)
    command = [
        *(python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--ray-client-server-port={client}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--dashboard-agent-listen-port={agent}", "--min-worker-port=0", "--max-worker-port=0"),
        *(f"--num-cpus={cpus}", "--num-gpus=0", f"--object-store-memory={300 * 2**20}", f"--temp-dir={folder}"),
    ]
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        _wait_for_jobs(address, process, folder / "start.log")
        yield address, folder
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def several_nodes(cpus: int = 2) -> Iterator[Cluster]:
    """Start a head that takes `cpus` CPUs and no jobs, yield the cluster, and end all of its nodes.

    It resembles `ray.cluster_utils.Cluster`, but every node is a process group that can be stopped, killed with all of
    its workers, or given a file system of its own.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    port, client = _free_ports(2)
    cluster = Cluster(f"127.0.0.1:{port}", folder)
    try:
        options = ["--head", f"--port={port}", f"--ray-client-server-port={client}", f"--temp-dir={folder}"]
        cluster.start([*options, "--include-dashboard=false"], cpus)
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """The nodes of a cluster, each a process group of this machine."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def add_node(self, cpus: int, hidden: Path | None = None) -> subprocess.Popen[bytes]:
        """Start another node, for which the folder `hidden` is an empty folder of its own."""
        return self.start([f"--address={self.address}"], cpus, hidden)

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """Send SIGKILL to a node with all of its workers; the others continue."""
        _end(node)

    def end(self) -> None:
        """Send SIGKILL to every node."""
        for process in reversed(self.processes):
            _end(process)

    def start(self, options: list[str], cpus: int, hidden: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a node and wait until it has joined the cluster.

        A node gives up if a busy head does not answer within half a minute; it is then started again.
        """
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
            *("--node-ip-address=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0", *options),
            *(f"--num-cpus={cpus}", "--num-gpus=0", f"--object-store-memory={100 * 2**20}"),
        ]
        if hidden is not None:
            script = f"mount -t tmpfs none {shlex.quote(str(hidden))} && exec {shlex.join(command)}"
            command = ["unshare", "--mount", "sh", "-c", script]
        end = time.monotonic() + _PATIENCE
        while True:
            log = self.folder / f"node-{len(self.processes)}.log"
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment(),
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self.processes.append(process)
            while process.poll() is None and time.monotonic() < end:
                if b"Ray runtime started" in log.read_bytes():
                    return process
                time.sleep(0.2)
            _end(process)
            if time.monotonic() > end or b"Deadline Exceeded" not in log.read_bytes():
                raise AssertionError(f"a node did not start:\n{log.read_text(encoding='utf-8')}")


def environment() -> dict[str, str]:
    """Return the environment of nodes and drivers, as in the image: the project importable, `python` with the packages.

    These clusters use no tokens, whatever the home directory contains.
    """
    inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return {
        **inherited,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "disabled",
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
    }


def _free_ports(count: int) -> list[int]:
    """Return ports below those that the system hands out, one of which it could give away before Ray binds it."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20_000, 32_000), 1_000):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no port is free")


def _wait_for_jobs(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Submit a job of no effect: the API answers before the agent that runs jobs is there."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the head exited during startup:\n{log.read_text(encoding='utf-8')}")
        with contextlib.suppress(ConnectionError, RuntimeError):
            JobSubmissionClient(address).submit_job(entrypoint="true")
            return
        time.sleep(1.0)
    raise AssertionError(f"the head takes no jobs:\n{log.read_text(encoding='utf-8')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the head's process group, and its descendants in groups of their own, which are the drivers of jobs."""
    descendants: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for descendant in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.kill()
    process.wait()
