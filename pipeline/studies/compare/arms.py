"""The arms of a comparison: each a selector, a size and a seed, in its own folder below `arms/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph
from pipeline.stages.selection_needs import FEATURE_NAMES
from pipeline.stages.stage_list import arm_stages, stages_before_selection
from pipeline.studies.compare.variant import Variant, parse_variant
from scoring.exceptions import SettingError
from scoring.selection import FULL
from scoring.selectors.coreset_size import checked_size

RANDOM = "random"
#: The offset between the seeds of two draws, so that arms keep their names when seeds or draws are added.
_DRAW = 1000


@dataclass(frozen=True)
class Arm:
    """One coreset and the model tuned on it.

    Attributes
    ----------
    selector : a method or a variant of one, in the form that `parse_variant` reads.
    size : a share of the samples or a count; None for `full`, which has no size.
    seed : the seed of the selection. Its last three digits are the training seed, the rest counts further draws.
    """

    selector: str
    size: float | None
    seed: int

    @property
    def name(self) -> str:
        """The name of the folder below `arms/`."""
        size = None if self.size is None else int(self.size) if self.size >= 1 else self.size
        # A colon would be part of a drive or of a URI to some tools.
        return f"{self.selector.replace(':', '.')}-n{'all' if size is None else size}-s{self.seed}"

    @property
    def variant(self) -> Variant:
        """The method and the settings that differ from the run's."""
        return parse_variant(self.selector)

    @property
    def training_seed(self) -> int:
        return self.seed % _DRAW

    @property
    def draw(self) -> int:
        return self.seed // _DRAW


@dataclass(frozen=True)
class Request:
    """What to compare.

    Attributes
    ----------
    selectors : methods or variants of them; costs are compared with that of `full`.
    seeds : the number of training seeds, each with its own selection.
    sizes : the coreset sizes, each in the form of `select.size`.
    draws : the number of selections by `random` for each training seed.
    first_seed : the lowest training seed, so that one set of seeds can choose and another report.
    control : the selector that differences are taken from.
    """

    selectors: Sequence[str]
    seeds: int
    sizes: Sequence[float]
    draws: int = 1
    first_seed: int = 0
    control: str = RANDOM

    def arms(self) -> list[Arm]:
        """List all arms; `full` has one per seed.

        Raises
        ------
        UserError : a selector is unknown, or a count or size is out of range.
        """
        if not self.selectors:
            raise UserError(
                "--selectors names no selector.", "Name some, separated by commas; docs/METHOD.md lists them."
            )
        for name in self.selectors:
            parse_variant(name)
        if self.control not in (RANDOM, *self.selectors) or self.control == FULL:
            raise UserError(
                f"--control {self.control} is not among the selectors that have a size.",
                "Name it in --selectors as well.",
            )
        counts = (("seeds", self.seeds, 1), ("draws", self.draws, 1), ("first-seed", self.first_seed, 0))
        for name, count, least in counts:
            if not least <= count < _DRAW:
                raise UserError(f"--{name} must be from {least} to {_DRAW - 1}, got {count}.", "Change it.")
        if (end := self.first_seed + self.seeds) > _DRAW:
            raise UserError(f"--first-seed and --seeds reach seed {end - 1}; the highest is {_DRAW - 1}.", "Lower one.")
        for size in self.sizes:
            try:
                checked_size(size)
            except SettingError as error:
                raise UserError(f"--sizes: {error}.", "Change it.") from error
        return [
            Arm(name, size, seed + _DRAW * draw)
            for name in self.selectors
            for size in ([None] if name == FULL else self.sizes)
            for draw in range(self.draws if name == RANDOM else 1)
            for seed in range(self.first_seed, self.first_seed + self.seeds)
        ]


def arm_config(config: Config, arm: Arm) -> Config:
    """Return the run's configuration with the arm's selection and seeds.

    Aimed methods look at half of the validation users only, so that the other half can choose among the methods.
    """
    size = {} if arm.size is None else {"size": arm.size}
    select = arm.variant.section(config.select, {"seed": arm.seed, "reference_users": "half", **size})
    if select.preset == "paper" and config.influence.target != "train":
        raise UserError(
            f"--selectors: {arm.selector} needs the influence on the train risk, but influence.target is "
            f"{config.influence.target}.",
            "Compare it in a run with influence.target: train.",
        )
    finetune = config.finetune.model_copy(update={"seed": config.finetune.seed + arm.training_seed})
    evaluate = config.evaluate.model_copy(update={"baselines": False})
    return config.model_copy(update={"select": select, "finetune": finetune, "evaluate": evaluate})


def arm_graph(config: Config, run: Storage, arm: Arm) -> Graph:
    """Return the stages that the arm shares with the run, and its own selection, fine-tuning and evaluation."""
    made = arm_config(config, arm)
    # A comparison recomputes nothing of what its arms share, so no command does for it.
    shared = tuple(
        replace(stage, command=None) if stage.name in FEATURE_NAMES else stage
        for stage in stages_before_selection(made)
    )
    return Graph(shared + arm_stages(arm.name, made), made, run)
