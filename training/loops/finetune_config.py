"""Settings of fine-tuning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cluster.errors import UserError
from scoring.settings import PositiveInt, Section, Share
from training.llm.llm_spec import LoraSpec


class FinetuneConfig(Section):
    """LoRA on the coreset, by Ray Train and DeepSpeed."""

    zero: Annotated[int, Field(ge=0, le=3)] = 2
    offload: Literal["none", "optimizer", "all"] = "none"
    lora_r: PositiveInt = LoraSpec.r
    lora_alpha: PositiveInt = int(LoraSpec.alpha)
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: tuple[str, ...] | str | None = Field(
        None, description="Modules, or all-linear; None takes the query and value projections of all attention layers."
    )
    layers: PositiveInt | Literal["all"] = Field(
        "all",
        description="Last decoder layers that get LoRA; the output of the layers below is computed once and kept.",
        exclude_if=lambda value: value == "all",
    )
    cache_gib: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="GiB on each node's disk for the output of the layers below; 0 keeps nothing, None is half of the "
        "free disk.",
        exclude_if=lambda value: value is None,
    )
    epochs: PositiveInt = 50
    patience: Annotated[int, Field(ge=0)] = Field(
        5, description="Epochs without a lower loss before tuning stops; 0 is off."
    )
    global_batch: PositiveInt = 128
    micro_batch_tokens: PositiveInt = Field(2048, description="Tokens in a forward pass on one worker.")
    lr: float = Field(1e-3, gt=0)
    warmup: Share = Field(0.05, description="Share of the steps that warm up.")
    clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0 is off.")
    checkpoint_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="Steps between checkpoints; 0 saves at the end of each epoch."
    )
    weight_decay: float = Field(0.0, ge=0)
    tokens: Literal["response", "all"] = "response"
    activation_checkpointing: bool = False
    valid_users: PositiveInt = Field(256, description="Validation users; the first target of each gives the loss.")
    seed: int = 0
    workers: PositiveInt = 1

    def check(self) -> None:
        """Raise `UserError` for settings that are each in range but do not go together.

        Reading a config does not call this: a run that stops before fine-tuning may ignore such settings.
        """
        if self.warmup == 1:
            raise UserError("finetune.warmup must be below 1, got 1.", "Give a share of the steps.")
        # ZeRO offloads what it shards: the optimizer's state from stage 1 on, the weights in stage 3.
        if self.offload != "none" and self.zero == 0:
            raise UserError(
                f"finetune.offload must be none if finetune.zero is 0, got {self.offload}.",
                "Raise finetune.zero, or omit finetune.offload.",
            )
        if self.offload == "all" and self.zero != 3:
            raise UserError(
                f"finetune.offload must be none or optimizer if finetune.zero is {self.zero}, got all.",
                "Only finetune.zero 3 offloads the weights: set that, or change finetune.offload.",
            )
        if self.workers > self.global_batch:
            raise UserError(
                f"finetune.workers must be at most finetune.global_batch ({self.global_batch}), got {self.workers}.",
                "Lower finetune.workers, or raise finetune.global_batch.",
            )

    def adapter(self, dropout: float | None = None) -> LoraSpec:
        """Return the LoRA adapter to tune, with another dropout if one is given."""
        targets = (self.targets,) if isinstance(self.targets, str) else self.targets
        return LoraSpec(
            self.lora_r,
            self.lora_alpha,
            targets,
            self.lora_dropout if dropout is None else dropout,
            self.seed,
            None if self.layers == "all" else self.layers,
        )
