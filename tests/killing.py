"""Killing a run of the command line, with every process it started, at a moment that a test can name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from pipeline.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
_LIMIT = 900.0


def go_on(arguments: Sequence[str]) -> None:
    """The same command to its end, on the Ray of this process: what it goes on from is in the run directory alone."""
    assert main(list(arguments)) == 0


def start(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, module: str = "pipeline"
) -> subprocess.Popen[str]:
    """The command in a process of its own, what it says in one pipe. Without an `environment` its Ray is its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment or _environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that run in the background ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def kill_when(
    arguments: Sequence[str], reached: Callable[[], bool], environment: Mapping[str, str] | None = None
) -> None:
    """Start the command, and SIGKILL it with all its descendants at a moment when `reached()` holds.

    All processes are stopped first and the condition is checked again while they stand still, so that it holds
    of what the kill leaves behind. Fails when the command ends before.
    """
    process = start(arguments, environment)
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        if process.poll() is not None:
            output = process.stdout.read() if process.stdout else ""
            raise AssertionError(f"the command ended before it was killed:\n{output}")
        if reached() and _kill_if_still(process.pid, reached):
            process.wait()
            return
        time.sleep(0.002)
    _signal_all(list(_family(process.pid)), signal.SIGKILL)
    raise AssertionError("the moment to kill never came")


def stop_when(arguments: Sequence[str], reached: Callable[[], bool]) -> tuple[int, str]:
    """Start the command, send SIGTERM to it alone once `reached()` holds; its exit code and what it said."""
    process = start(arguments)
    end = time.monotonic() + _LIMIT
    while not reached():
        if process.poll() is not None or time.monotonic() > end:
            _signal_all(list(_family(process.pid)), signal.SIGKILL)
            raise AssertionError(f"the moment to stop never came:\n{process.communicate()[0]}")
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=_LIMIT)
    return process.returncode, output


def _kill_if_still(pid: int, reached: Callable[[], bool]) -> bool:
    family = _standing_still(pid)
    # Files that a stopped process was about to rename stay as they are from here on.
    if reached():
        _signal_all(family, signal.SIGKILL)
        return True
    _signal_all(family, signal.SIGCONT)
    return False


def _standing_still(pid: int) -> list[psutil.Process]:
    """Stop the process and its descendants; return them once none runs and none has started another."""
    # It goes first, at once: a stage that it works on itself may take less time than to find the others.
    os.kill(pid, signal.SIGSTOP)
    family: list[psutil.Process] = []
    while (found := list(_family(pid))) != family or not all(_stands_still(each) for each in family):
        family = found
        _signal_all(family, signal.SIGSTOP)
        time.sleep(0.01)
    return family


def _stands_still(process: psutil.Process) -> bool:
    """Whether every thread is stopped or gone: one that waits for the disk ends its call to the kernel first."""
    states = []
    for status in Path("/proc", str(process.pid), "task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.append(status.read_text().rpartition(")")[2].split()[0])
    return set(states) <= {"T", "t", "Z", "X"}


def _family(pid: int) -> Iterator[psutil.Process]:
    """The process and its descendants, Ray's among them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        yield root
        yield from root.children(recursive=True)


def _signal_all(processes: Sequence[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _environment() -> dict[str, str]:
    return {**os.environ, "RAY_ADDRESS": "local", "HF_HUB_OFFLINE": "1"}
