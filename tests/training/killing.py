"""Kills a training worker, found through the pids that its checkpoints record."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from cluster.storage import Storage


class Killer(threading.Thread):
    """Sends SIGKILL to the last rank once the folder that starts with `prefix` holds so many checkpoints."""

    def __init__(self, scratch: Storage, prefix: str, checkpoints: int = 1) -> None:
        super().__init__(daemon=True)
        self.scratch, self.prefix, self.checkpoints = scratch, prefix, checkpoints
        self.killed: int | None = None
        self.step: int | None = None

    def run(self) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            states = checkpoint_states(self.scratch, self.prefix)
            if len(states) >= self.checkpoints:
                self.killed = states[-1]["workers"][-1]["pid"]
                self.step = states[-1]["step"]
                os.kill(self.killed, signal.SIGKILL)
                return
            time.sleep(0.02)

    def is_replaced(self) -> bool:
        """Whether it has killed, and a rank that took the place of the killed one has saved a checkpoint."""
        states = checkpoint_states(self.scratch, self.prefix)
        return self.killed is not None and any(state["workers"][-1]["pid"] != self.killed for state in states)


def checkpoint_states(scratch: Storage, prefix: str) -> list[dict[str, Any]]:
    """JSON of the checkpoints there are, oldest first."""
    root = os.path.abspath(scratch.uri)
    folders = [name for name in os.listdir(root) if name.startswith(prefix)] if os.path.isdir(root) else []
    states = []
    for name in folders:
        folder = scratch.child(name)
        for file in folder.list(suffix=".json"):
            try:
                states.append(folder.read_json(file))
            except FileNotFoundError:  # an older one, just deleted
                continue
    return states
