"""One fine-tuning: its settings, the model it starts from, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from cluster.digest import json_digest
from cluster.storage import Storage
from training.llm.llm_config import LlmConfig
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.loops.finetune_config import FinetuneConfig
from training.loops.trunk_states import CacheSettings
from training.loops.worker_placement import Placement

#: Settings of where and how steps run. A tuning can resume with other values, since the steps stay the same.
HOW_ONLY = frozenset(
    {"workers", "checkpoint_steps", "micro_batch_tokens", "activation_checkpointing", "zero", "offload", "cache_gib"}
)
#: Settings that the stamp holds in another form: the adapter's, and the users whose samples are among the inputs.
_OTHERWISE = frozenset({"lora_r", "lora_alpha", "lora_dropout", "targets", "layers", "valid_users"})


@dataclass(frozen=True)
class FinetuneSpec:
    """How the LLM is tuned.

    The objective of a step is the mean over the samples of its global batch of ℓ_LLM(s), the mean negative
    log-likelihood of the sample's response tokens (or of all its tokens): the same loss that effort is
    measured on. It does not depend on the number of workers or on how a batch is cut into micro-batches.

    Attributes
    ----------
    llm : the model and its prompt, as configured.
    settings : the optimizer, the adapter and the schedule.
    model_copy : a folder with the same model that workers read instead, such as an expanded GGUF file.
    placement : the workers' placement, which changes the result by rounding at most (threads).
    cache : the settings by which each node keeps the states of frozen layers.
    """

    llm: LlmConfig
    settings: FinetuneConfig = field(default_factory=FinetuneConfig)
    model_copy: str = ""
    placement: Placement = field(default_factory=Placement)
    cache: CacheSettings = field(default_factory=CacheSettings)

    @property
    def base(self) -> LLMSpec:
        """The hub name or path of the model that is tuned."""
        return self.llm.weights()

    @property
    def source(self) -> LLMSpec:
        """The model from which workers read weights and tokenizer."""
        return LLMSpec(self.model_copy or self.llm.model, self.llm.dtype)

    @property
    def lora(self) -> LoraSpec:
        """The adapter."""
        return self.settings.adapter()

    def stamp(self, *inputs: str | Mapping[str, str]) -> str:
        """Digest everything that decides the result beyond rounding. A checkpoint fits any spec with its stamp."""
        settings = {
            **self.settings.model_dump(exclude=set(HOW_ONLY | _OTHERWISE)),
            **self.llm.model_dump(include={"template", "max_items", "max_tokens"}),
            "llm": asdict(self.base),
            "lora": {name: value for name, value in asdict(self.lora).items() if (name, value) != ("layers", None)},
        }
        return json_digest({"spec": settings, "inputs": inputs})


@dataclass(frozen=True)
class FinetuneJob:
    """The driver's order to every rank.

    `folder` holds the encoded examples (`train.parquet`, `valid.parquet`) and receives the checkpoints.
    """

    spec: FinetuneSpec
    folder: Storage
    stamp: str
    pad_id: int
