"""The arms of a comparison: a selector, a size and a seed each, in a folder of its own below `arms/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph
from pipeline.stages.stage_list import arm_stages, stages_before_selection
from pipeline.studies.compare.variant import Variant, parse_variant
from scoring.exceptions import SettingError
from scoring.selection import FULL
from scoring.selectors.coreset_size import checked_size

RANDOM = "random"
#: Seeds of a further draw lie this much higher, so arms keep their names when seeds or draws are added.
_DRAW = 1000


@dataclass(frozen=True)
class Arm:
    """One coreset and what is tuned on it.

    Attributes
    ----------
    selector : as `parse_variant` reads it.
    size : a share of the samples or a count; None for `full`, which has no size.
    seed : of the selection. Its last three digits are the training seed, the rest counts further draws.
    """

    selector: str
    size: float | None
    seed: int

    @property
    def name(self) -> str:
        """The folder below `arms/`."""
        size = None if self.size is None else int(self.size) if self.size >= 1 else self.size
        # A colon would be part of a drive or of a URI to some tools.
        return f"{self.selector.replace(':', '.')}-n{'all' if size is None else size}-s{self.seed}"

    @property
    def variant(self) -> Variant:
        """The method and its own settings."""
        return parse_variant(self.selector)

    @property
    def training_seed(self) -> int:
        return self.seed % _DRAW

    @property
    def draw(self) -> int:
        return self.seed // _DRAW


@dataclass(frozen=True)
class Request:
    """What is compared.

    Attributes
    ----------
    selectors : methods or variants of them; costs are held against `full`.
    seeds : training seeds, each with a selection of its own.
    sizes : as `select.size`.
    draws : selections of `random` for each training seed.
    first_seed : the lowest training seed; what was chosen by some seeds is reported by others.
    control : the selector from which differences are taken.
    """

    selectors: Sequence[str]
    seeds: int
    sizes: Sequence[float]
    draws: int = 1
    first_seed: int = 0
    control: str = RANDOM

    def arms(self) -> list[Arm]:
        """All arms, the coresets of `full` once a seed.

        Raises `UserError` for an unknown selector, for counts that cannot be, and for sizes that cannot.
        """
        if not self.selectors:
            raise UserError("--selectors: none.", "Name some, separated by commas; docs/METHOD.md lists them.")
        for name in self.selectors:
            parse_variant(name)
        if self.control not in (RANDOM, *self.selectors) or self.control == FULL:
            raise UserError(
                f"--control {self.control} is not among the selectors with a size.", "Name it in --selectors too."
            )
        counts = (("seeds", self.seeds, 1), ("draws", self.draws, 1), ("first-seed", self.first_seed, 0))
        for name, count, least in counts:
            if not least <= count < _DRAW:
                raise UserError(f"--{name} {count} is out of range.", f"Give {least} to {_DRAW - 1}.")
        if (end := self.first_seed + self.seeds) > _DRAW:
            raise UserError(f"--first-seed and --seeds go to seed {end - 1}, beyond {_DRAW - 1}.", "Lower one of them.")
        for size in self.sizes:
            try:
                checked_size(size)
            except SettingError as error:
                remedy = "Give shares below 1, or whole numbers of samples."
                raise UserError(f"--sizes: {size:g} is no size.", remedy) from error
        return [
            Arm(name, size, seed + _DRAW * draw)
            for name in self.selectors
            for size in ([None] if name == FULL else self.sizes)
            for draw in range(self.draws if name == RANDOM else 1)
            for seed in range(self.first_seed, self.first_seed + self.seeds)
        ]


def arm_config(config: Config, arm: Arm) -> Config:
    """The run's configuration with the arm's selection and seeds.

    Aimed methods look at half of the validation users, so that the others can choose among the methods.
    """
    size = {} if arm.size is None else {"size": arm.size}
    select = arm.variant.section(config.select, {"seed": arm.seed, "reference_users": "half", **size})
    if select.preset == "paper" and config.influence.target != "train":
        raise UserError(
            f"--selectors: {arm.selector} scores the influence on the train risk, and influence.target is "
            f"{config.influence.target}.",
            "Compare it in a run with influence.target: train.",
        )
    finetune = config.finetune.model_copy(update={"seed": config.finetune.seed + arm.training_seed})
    evaluate = config.evaluate.model_copy(update={"baselines": False})
    return config.model_copy(update={"select": select, "finetune": finetune, "evaluate": evaluate})


def arm_graph(config: Config, run: Storage, arm: Arm) -> Graph:
    """The stages that the arm shares with the run, and its own selection, fine-tuning and evaluation."""
    made = arm_config(config, arm)
    return Graph(stages_before_selection(made) + arm_stages(arm.name, made), made, run)
