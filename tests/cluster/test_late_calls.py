from __future__ import annotations

import subprocess
import sys

import pytest

from tests.ray_cluster import ROOT, environment

_LATE = """
import sys, threading
import ray
from cluster.session import ray_session

class Late:
    def __del__(self):
        ray.get(self.reference)

class Broken:
    def __del__(self):
        raise ValueError("no fault of Ray")

late = Late()
with ray_session("local", cpus=1):
    late.reference = ray.put(1)
    actor = ray.remote(type("Actor", (), {"ask": lambda self: 1})).remote()

for call in (lambda: ray.put(1), lambda: actor.ask.remote(), lambda: ray.get_actor("x")):
    try:
        call()
    except (ray.exceptions.RaySystemError, AttributeError):
        pass
    else:
        sys.exit("a call without a session was answered")
thread = threading.Thread(target=ray.put, args=(1,))
thread.start()
thread.join()
del late
Broken().__class__
sys.exit("another Ray was started" if ray.is_initialized() else 0)
"""


@pytest.mark.slow
def test_a_call_after_the_session_starts_nothing_and_says_nothing() -> None:
    """By default it would start a Ray, and errors of a destructor or thread would follow our last message."""
    command = [sys.executable, "-c", _LATE]
    ended = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    # Errors that do not come from Ray are still reported.
    assert ended.stderr.count("Exception ignored in") == 1
    assert "no fault of Ray" in ended.stderr
    assert "Exception in thread" not in ended.stderr
