"""Weights & Biases, online or offline as WANDB_MODE says."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import UserError
from pipeline.tracking.tracker import PROJECT, Ending, Figures, TrackedRun


class WandbTracker:
    """A run of Weights & Biases in the project WANDB_PROJECT, `dealrec` by default.

    Each group has its own steps, `GROUP/step`. Code, command line, git state and console output are not sent.
    """

    def __init__(self, tracked: TrackedRun) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        identity = tracked.identity or secrets.token_hex(4)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=tracked.name,
            id=identity,
            resume="allow",
            config=dict(tracked.params) if tracked.identity is None else None,
            settings=settings,
        )
        self._groups: set[str] = set()

    @property
    def identity(self) -> str:
        return str(self._run.id)

    def log(self, group: str, rows: Sequence[Figures]) -> None:
        axis = f"{group}/step"
        if group not in self._groups:
            self._groups.add(group)
            self._run.define_metric(f"{group}/*", step_metric=axis)
        for row in rows:
            self._run.log({axis: row.step, **{f"{group}/{name}": value for name, value in row.values.items()}})

    def keep(self, file: Path) -> None:
        # The library would link to the file, which may be a temporary one.
        copy = shutil.copy(file, self._run.dir)
        self._run.save(copy, base_path=self._run.dir, policy="now")

    def close(self, ending: Ending) -> None:
        self._run.finish(exit_code=0 if ending == "finished" else 1)


def require_wandb_login() -> None:
    """Raise `UserError` where the library would have to ask for an API key once the run has begun."""
    import wandb

    if os.environ.get("WANDB_MODE", "online") not in ("online", "run", "shared"):
        return
    if wandb.login(prompt=False, verify=False):
        return
    raise UserError(
        "track: wandb has no API key for Weights & Biases.",
        "Run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline and upload later by `wandb sync`.",
    )
