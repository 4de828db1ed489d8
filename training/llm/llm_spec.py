"""Settings of the causal language model and its adapter, without the libraries that load them."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.errors import UserError

DTYPES = ("float32", "bfloat16", "float16", "float64")


#: PEFT's name for adapting every linear map except the output head.
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LLMSpec:
    """A model and the dtype of its weights, one of DTYPES."""

    model: str
    dtype: str = "bfloat16"

    def check(self) -> None:
        """Raise `UserError` for a dtype that is not in DTYPES."""
        if self.dtype not in DTYPES:
            raise UserError(
                f"llm.dtype: {self.dtype!r} is not a weight dtype.",
                remedy=f"Use one of {', '.join(DTYPES)}.",
            )


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA adapter (Hu et al., 2022): its rank, its scale alpha / r, and the linear maps that it adapts.

    `targets` are module names or their endings, or ALL_LINEAR alone; None means the query and value projections (or
    the fused projection) of every attention layer. `layers` counts the last decoder layers that are adapted; None means
    all. `seed` determines A; B starts at zero.
    """

    r: int = 8
    alpha: float = 16
    targets: tuple[str, ...] | None = None
    dropout: float = 0.0
    seed: int = 0
    layers: int | None = None
