"""The trackers that `track` may name, what each needs, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from cluster.errors import UserError
from pipeline.tracking.mlflow_tracker import MlflowTracker
from pipeline.tracking.tensorboard_tracker import TensorboardTracker
from pipeline.tracking.tracker import OpenTracker
from pipeline.tracking.trackio_tracker import TrackioTracker
from pipeline.tracking.wandb_tracker import WandbTracker, require_wandb_login


def _nothing_more() -> None:
    return None


@dataclass(frozen=True)
class KnownTracker:
    """A tracker that can be named in the config.

    Attributes
    ----------
    open : begins or continues a run; imports the package.
    modules, install : what must be importable, and the packages that bring it.
    require : raises `UserError` for anything else that is lacking.
    """

    open: OpenTracker
    modules: tuple[str, ...]
    install: str
    require: Callable[[], None] = _nothing_more


KNOWN = {
    "mlflow": KnownTracker(MlflowTracker, ("mlflow", "sqlalchemy", "alembic"), "mlflow-skinny sqlalchemy alembic"),
    "wandb": KnownTracker(WandbTracker, ("wandb",), "wandb", require_wandb_login),
    "trackio": KnownTracker(TrackioTracker, ("trackio",), "trackio"),
    "tensorboard": KnownTracker(TensorboardTracker, ("tensorboard",), "tensorboard"),
}


def require_trackers(names: Sequence[str]) -> str:
    """Check that every named tracker can be opened; returns their names in words.

    Raises `UserError` that names the packages to install.
    """
    missing = [name for name in names if any(find_spec(module) is None for module in KNOWN[name].modules)]
    if missing:
        packages = " ".join(KNOWN[name].install for name in missing)
        raise UserError(
            f"track: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.",
            f"Install it where the run is started: pip install {packages}. Or remove it from track.",
        )
    for name in names:
        KNOWN[name].require()
    return ", ".join(names) or "none"
