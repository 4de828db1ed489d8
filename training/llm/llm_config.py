"""Settings of the language model and of its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from scoring.settings import PositiveInt, Section
from training.llm.llm_spec import LLMSpec


class LlmConfig(Section):
    """The language model, and how samples become prompts."""

    model: str = Field("HuggingFaceTB/SmolLM2-135M-Instruct", description="Hub name, folder or .gguf file.")
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    template: str | dict[str, Any] = Field("neutral", description="A built-in name, or the parts of a template.")
    max_items: PositiveInt = Field(20, description="Number of last titles of the history that a prompt shows.")
    max_tokens: PositiveInt = 512
    long_titles: Literal["cut", "drop", "error"] = Field(
        "cut",
        description="Titles of more than max_title_tokens: shown up to a word, or left out with their interactions.",
    )
    max_title_tokens: PositiveInt | None = Field(
        None, description="Most tokens of a title with its quotes; None is a quarter of max_tokens."
    )

    @field_validator("model")
    @classmethod
    def _at_home(cls, value: str) -> str:
        return str(Path(value).expanduser()) if value.startswith("~") else value

    def weights(self) -> LLMSpec:
        """Return the model to load."""
        return LLMSpec(self.model, self.dtype)

    def located(self) -> LlmConfig:
        """Make a local path absolute, since each worker has its own working directory."""
        path = Path(self.model)
        return self.model_copy(update={"model": str(path.resolve())}) if path.exists() else self
