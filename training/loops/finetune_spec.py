"""Settings of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cluster.digest import json_digest
from cluster.errors import UserError
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.loops.examples import TOKENS
from training.loops.worker_placement import Placement

OFFLOADS = ("none", "optimizer", "all")

#: Where and how the steps are made, not which: a tuning under way goes on with others.
HOW_ONLY = (
    "model_copy",
    "workers",
    "placement",
    "checkpoint_steps",
    "micro_batch_tokens",
    "activation_checkpointing",
    "zero",
    "offload",
)


@dataclass(frozen=True)
class FinetuneSpec:
    """How the LLM is tuned.

    The objective of a step is the mean over the samples of its global batch of ℓ_LLM(s), the mean negative
    log-likelihood of the sample's response tokens (or of all its tokens): the very loss that effort is
    measured on. It does not depend on the number of workers or on how a batch is cut into micro-batches.

    Attributes
    ----------
    llm, lora : the model and its adapter.
    model_copy : a folder with the same model that workers read instead, such as an expanded GGUF file.
    template : of the prompt, as `load_template` takes it; max_items, max_tokens : its limits.
    tokens : `response` or `all`, the tokens that the loss is taken over.
    zero : ZeRO stage, 0 to 3 (Rajbhandari et al., SC 2020).
    offload : `none`; `optimizer` keeps its state in host memory (stages 1 to 3); `all` the weights too (stage
        3).
    epochs : at most; global_batch : samples in an optimizer step, over all workers.
    lr : peak; warmup : share of all steps over which it rises; it then falls to 0 along a cosine.
    weight_decay : decoupled (AdamW); clip : bound of the gradient's global norm, 0 for none.
    patience : epochs without a lower validation loss before stopping; 0 never stops early.
    micro_batch_tokens : cells (padding included) of a micro-batch on one worker.
    checkpoint_steps : also save every so many steps; 0 saves after each epoch only.
    activation_checkpointing : recompute activations in the backward pass.
    seed : of the order of samples and of dropout.
    workers : world size; placement : where they run, which changes the result by rounding at most (threads).
    """

    llm: LLMSpec
    lora: LoraSpec = field(default_factory=LoraSpec)
    model_copy: str = ""
    template: str | Mapping[str, Any] = "neutral"
    max_items: int = 10
    max_tokens: int = 512
    tokens: str = "response"
    zero: int = 2
    offload: str = "none"
    epochs: int = 3
    global_batch: int = 32
    lr: float = 1e-4
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    patience: int = 0
    micro_batch_tokens: int = 4096
    checkpoint_steps: int = 0
    activation_checkpointing: bool = False
    seed: int = 0
    workers: int = 1
    placement: Placement = field(default_factory=Placement)

    @property
    def source(self) -> LLMSpec:
        """Where the weights and the tokenizer are read from."""
        return replace(self.llm, model=self.model_copy or self.llm.model)

    def check(self) -> None:
        """Raises `UserError` naming the key whose value cannot be."""
        rules = [
            ("zero", self.zero in (0, 1, 2, 3), "0, 1, 2 or 3"),
            ("tokens", self.tokens in TOKENS, " or ".join(TOKENS)),
            ("offload", self.offload in OFFLOADS, ", ".join(OFFLOADS)),
            ("offload", self.offload == "none" or self.zero > 0, "none where finetune.zero is 0"),
            ("offload", self.offload != "all" or self.zero == 3, "all only where finetune.zero is 3"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("global_batch", self.global_batch >= 1, "at least 1"),
            ("lr", self.lr > 0, "above 0"),
            ("warmup", 0 <= self.warmup < 1, "at least 0 and below 1"),
            ("micro_batch_tokens", self.micro_batch_tokens >= 1, "at least 1"),
            ("workers", self.workers >= 1, "at least 1"),
            ("workers", self.workers <= self.global_batch, "at most finetune.global_batch"),
        ]
        for key, holds, expected in rules:
            if not holds:
                raise UserError(f"finetune.{key} is {getattr(self, key)}, which cannot be.", f"It must be {expected}.")
        if self.llm.dtype not in ("float32", "bfloat16", "float16"):
            raise UserError(
                f"llm.dtype is {self.llm.dtype}, which fine-tuning does not do.",
                "Use bfloat16, float32, or float16 on a GPU.",
            )

    def stamp(self, *inputs: Any) -> str:
        """Digest of all that decides the result beyond rounding: checkpoints fit whatever the rest is then."""
        settings = {key: value for key, value in asdict(self).items() if key not in HOW_ONLY}
        return json_digest({"spec": settings, "inputs": inputs})
