"""Which causal language model and which adapter: settings, without the libraries that load them."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.errors import UserError

DTYPES = ("float32", "bfloat16", "float16", "float64")


#: PEFT's own word, among the targets of an adapter, for every linear map but the output head.
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LLMSpec:
    """Which model, and the type its weights are held in, one of DTYPES."""

    model: str
    dtype: str = "bfloat16"

    def check(self) -> None:
        """Raises UserError for a type that is not in DTYPES."""
        if self.dtype not in DTYPES:
            raise UserError(
                f"llm.dtype: {self.dtype!r} is not a type of weights.",
                remedy=f"Use one of {', '.join(DTYPES)}.",
            )


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA adapter (Hu et al., 2022): rank, scale alpha / r, and the linear maps it is put on.

    `targets` are module names or their endings, or ALL_LINEAR alone; None stands for the query and value projections
    of every attention layer, or the fused projection. `seed` fixes A; B starts at zero.
    """

    r: int = 8
    alpha: float = 16
    targets: tuple[str, ...] | None = None
    dropout: float = 0.0
    seed: int = 0
