"""The JSON records that trainings return and write."""

from __future__ import annotations

from typing import TypedDict, cast

from cluster.storage import Storage


class WorkerPlace(TypedDict):
    """A process of a training, and its node."""

    pid: int
    node_id: str


class RankEvidence(WorkerPlace):
    """The setup that a rank trains with, as its DeepSpeed engine reports it."""

    rank: int
    world_size: int
    engine: str
    optimizer: str
    zero: int
    backend: str
    accelerator: str
    device: str
    dtype: str
    adapter_dtype: str
    threads: int


class FinetuneTrace(TypedDict):
    """The fields of a `FinetuneHistory`."""

    epoch: int
    index: int
    train: list[float]
    learning_rate: list[float]
    valid: list[dict[str, float]]
    tokens: int
    seconds: float
    valid_seconds: float


class BestEpoch(TypedDict):
    """The epoch that is kept, from 1, and its validation loss."""

    epoch: int
    loss: float | None


class BestAdapter(BestEpoch):
    """The best epoch, and the file of its adapter among the checkpoints."""

    file: str | None


class TrunkWork(TypedDict):
    """The passes through the frozen layers since the training began or resumed.

    Samples and tokens are those of all ranks. The seconds are what computing states ahead took the slowest rank, beside
    the seconds of steps and validation; those of states that found no room on disk are part of the steps.
    """

    samples: int
    tokens: int
    seconds: float


class FinetuneOutcome(TypedDict):
    """The result of the fine-tuning loop."""

    history: FinetuneTrace
    best: BestAdapter
    workers: list[RankEvidence]
    peak_memory: int
    trunk: TrunkWork | None
    trainable: list[list[int]]
    adapter_config: dict[str, object]


class FinetuneLosses(TypedDict):
    """The content of `losses.json`: losses by step and epoch, speed, and the setup of every worker."""

    train: list[float]
    learning_rate: list[float]
    valid: list[dict[str, float]]
    untuned_loss: float
    best: BestEpoch
    steps: int
    epochs: int
    samples: dict[str, int]
    tokens: int
    seconds: float
    valid_seconds: float
    peak_memory: int
    trunk: TrunkWork | None
    tokens_per_second: float
    loss_tokens: str
    workers: list[RankEvidence]
    versions: dict[str, str]


class SurrogateFacts(TypedDict):
    """The facts of a training of the surrogate: its epochs, the best of them, and the sizes of its data."""

    epochs: list[dict[str, float]]
    steps: int
    best_epoch: int
    config: dict[str, object]
    item_count: int
    train_targets: int
    valid_users: int
    workers: list[WorkerPlace]
    peak_memory: int


class SurrogateOutcome(SurrogateFacts):
    """The result of the surrogate's loop: the facts, and the file of the best weights among the checkpoints."""

    best_file: str | None


_BestRanking = TypedDict("_BestRanking", {"ndcg@10": float, "recall@10": float})


class SurrogateMetrics(SurrogateFacts, _BestRanking):
    """The content of the surrogate's `metrics.json`: the facts, and the metrics of the best epoch."""

    surrogate: str
    samples_per_second: float


def finetune_losses(folder: Storage) -> FinetuneLosses:
    """Read the `losses.json` of a fine-tuning's folder."""
    return cast(FinetuneLosses, folder.read_json("losses.json"))


def surrogate_metrics(folder: Storage) -> SurrogateMetrics:
    """Read the `metrics.json` of a surrogate's folder."""
    return cast(SurrogateMetrics, folder.read_json("metrics.json"))
