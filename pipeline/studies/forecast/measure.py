"""The two small runs that measure rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.driver.run_directory import RunOptions, run_stages
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import read_manifest
from pipeline.ingest.statistics_record import read_statistics
from pipeline.stages.stage_list import all_stages

#: LLM prompts to time effort on, and coreset samples to time fine-tuning on.
_PROMPTS, _TUNED = 96, 32
_VALID_USERS = 8

#: The facts of each stage, as its manifest holds them; the laws of the stages know their types.
StageFacts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RunSize:
    """The sizes that determine the times of the stages.

    Attributes
    ----------
    interactions, users, items : the sizes of the log.
    samples, test_users : the numbers of train and test samples.
    targets : the number of positions that the surrogate trains on.
    valid_users : the number of users that an epoch of the surrogate is validated on.
    """

    interactions: int
    users: int
    items: int
    samples: int
    test_users: int
    targets: int
    valid_users: int


@dataclass(frozen=True)
class Measured:
    """A complete share run: its sizes, and each stage's seconds, facts and driver memory in bytes."""

    scale: RunSize
    seconds: Mapping[str, float]
    facts: StageFacts
    driver: Mapping[str, int]


def surrogate_side(config: Config, shards: int, samples: int) -> Config:
    """Configure the share run for ingest, surrogate, influence, effort and select: many users, all items, few prompts.

    `samples` is roughly the number of samples in the share.
    """
    epochs = min(2, config.surrogate.epochs)
    return _updated(
        config,
        samples={"shards": shards},
        surrogate={"epochs": epochs, "patience": epochs},
        effort={"candidates": min(1.0, _PROMPTS / samples)},
        select={
            "size": _size(_PROMPTS // 4, samples),
            "hard_prune": 0.0,
            "settings": {key: value for key, value in config.select.settings.items() if key != "hard_prune"},
        },
    )


def llm_side(config: Config, shards: int, samples: int, test_users: int) -> Config:
    """Configure the share run for finetune, evaluate and report: few users, their items only, few samples."""
    return _updated(
        config,
        samples={"shards": shards},
        surrogate={"epochs": 1},
        influence={"solver": "none"},
        effort={"candidates": min(1.0, 8 / samples)},
        select={"method": "random", "settings": {}, "size": _size(_TUNED, samples)},
        finetune={
            "epochs": 1,
            "patience": 0,
            "global_batch": min(config.finetune.global_batch, _TUNED // 2),
            "valid_users": min(config.finetune.valid_users, _VALID_USERS),
        },
        evaluate={"users": test_users},
    )


def _size(wanted: int, samples: int) -> float:
    """Return `select.size` as the share that gives about so many samples, so that it never exceeds them."""
    return min(0.99, wanted / samples)


def measure(config: Config, run: Storage, last: str | None = None) -> Measured:
    """Bring a share run up to date, up to the stage `last`, and read what it took.

    A run of another config is discarded.
    """
    every = all_stages(config)
    graph = Graph(every, config, run)
    names = [stage.name for stage in graph.stages]
    done = names[: names.index(last) + 1] if last else names
    try:
        graph.check([graph.stage(name) for name in done])
    except UserError:
        graph.discard(graph.stages)
    run_stages(config, run, RunOptions(last=last), every)
    seconds, facts, driver = {}, {}, {}
    for name in done:
        manifest = read_manifest(graph.folder(graph.stage(name)))
        assert manifest is not None
        seconds[name], facts[name], driver[name] = manifest.seconds, manifest.facts, manifest.driver_memory
    return Measured(_scale(graph, facts), seconds, facts, driver)


def _scale(graph: Graph, facts: StageFacts) -> RunSize:
    statistics = read_statistics(graph.folder(graph.stage("ingest")))
    return RunSize(
        interactions=statistics["interactions"]["kept"],
        users=statistics["users"],
        items=statistics["items"]["all"],
        samples=statistics["samples"]["train"],
        test_users=statistics["samples"]["test"],
        targets=facts["surrogate"]["train_targets"],
        valid_users=facts["surrogate"]["valid_users"],
    )


def _updated(config: Config, **sections: Mapping[str, object]) -> Config:
    changes = {name: getattr(config, name).model_copy(update=dict(keys)) for name, keys in sections.items()}
    # Shares of the log are measured, not tracked.
    return config.model_copy(update={**changes, "track": ()})


def whole_scale(share: RunSize, interactions: int, users: int, items: int, valid_users: int) -> RunSize:
    """Return the sizes of the whole log, from its totals, and the share's other sizes in proportion.

    `valid_users` is the most users that the surrogate is validated on. The number of users may be an estimate, so the
    whole is never taken as smaller than its share.
    """
    by_user = max(1.0, users / max(1, share.users))
    by_interaction = max(1.0, interactions / max(1, share.interactions))
    return RunSize(
        interactions=interactions,
        users=users,
        items=items,
        samples=max(1, round(share.samples * by_user)),
        test_users=max(1, round(share.test_users * by_user)),
        targets=max(1, round(share.targets * by_interaction)),
        valid_users=min(valid_users, round(share.valid_users * by_user)),
    )
