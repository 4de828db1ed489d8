"""TensorBoard: event files in the folder `tensorboard` of the run directory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.tracking.tracker import Ending, Figures, TrackedRun

FOLDER = "tensorboard"


class TensorboardTracker:
    """Writes event files; those of a run directory in a bucket are copied there when the run ends."""

    def __init__(self, tracked: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._name = tracked.identity or time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._target = tracked.run.child(FOLDER, self._name)
        self._scratch = tempfile.TemporaryDirectory() if tracked.run.remote else None
        self._folder = Path(self._scratch.name if self._scratch else self._target.uri)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(self._folder))
        if tracked.identity is None:
            rows = [f"    {key}: {value}" for key, value in tracked.params.items()]
            self._writer.add_text("config", "\n".join(rows))

    @property
    def identity(self) -> str:
        return self._name

    def log(self, group: str, rows: Sequence[Figures]) -> None:
        for row in rows:
            for name, value in row.values.items():
                self._writer.add_scalar(f"{group}/{name}", value, row.step)
        self._writer.flush()

    def keep(self, file: Path) -> None:
        """Keep nothing: event files hold no other files, and the run directory has them."""

    def close(self, ending: Ending) -> None:
        self._writer.close()
        if self._scratch is None:
            return
        for file in sorted(self._folder.iterdir()):
            self._target.write_bytes(file.name, file.read_bytes())
        self._scratch.cleanup()
