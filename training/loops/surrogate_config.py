"""Settings of the surrogate recommender."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from scoring.settings import PositiveInt, Section

#: Settings of the network itself; its builder receives them.
NETWORK_KEYS = frozenset({"hidden", "blocks", "heads", "dropout", "loss", "negatives", "seed"})


class SurrogateConfig(Section):
    """The small recommender whose gradients give influence."""

    model: str = Field("sasrec", pattern=r"^(sasrec|[\w.]+:\w+)$", description="sasrec, or module:builder of yours.")
    settings: dict[str, Any] = Field({}, description="What a surrogate of your own is given besides the keys below.")
    loss: Literal["softmax", "sampled", "bce"] = "softmax"
    negatives: PositiveInt = Field(256, description="Negatives a target, for sampled and bce.")
    hidden: PositiveInt = 64
    blocks: PositiveInt = 2
    heads: PositiveInt = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    epochs: PositiveInt = 50
    patience: Annotated[int, Field(ge=0)] = Field(
        5, description="Epochs without a better validation NDCG@10 before it stops, at least warmup_steps; 0 is off."
    )
    lr: float = Field(1e-3, gt=0)
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        100, description="Steps over which lr rises linearly, at most a tenth of all."
    )
    weight_decay: float = Field(0.0, ge=0)
    batch_tokens: PositiveInt = Field(4096, description="Positions a batch, padding included.")
    valid_users: PositiveInt = Field(2000, description="Validation users ranked after each epoch, at most.")
    seed: int = 0
    workers: PositiveInt = 1

    def network(self, max_history: int) -> dict[str, Any]:
        """Return the arguments of the surrogate's builder, except the number of items."""
        return {"max_history": max_history, **self.model_dump(include=set(NETWORK_KEYS)), **self.settings}
