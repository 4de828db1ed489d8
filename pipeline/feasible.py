"""What is wrong with a configuration and can be told in seconds: before Ray starts, before results are discarded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cluster.errors import UserError
from cluster.session import is_embedded
from pipeline.config import Config
from pipeline.stages.catalogue import LLM_STAGES

_LOCAL = ("/", ".", "~")


def check_settings(config: Config, stages: Sequence[str]) -> None:
    """Raise `UserError` for values that would stop one of these stages, after those before it have run."""
    if "ingest" in stages:
        _check_inputs(config)
    if LLM_STAGES & set(stages):
        from training.prompts import load_template

        load_template(config.llm.template)
        _check_model(config)
    if "finetune" in stages:
        from pipeline.stages.finetune import finetune_spec, llm_spec
        from training.placement import Placement

        finetune_spec(config, llm_spec(config), Placement()).check()


def _check_inputs(config: Config) -> None:
    from pipeline.ingest.sources import find_files

    find_files(config.data.interactions, "data.interactions", skip_suffix=".item")
    if config.data.items is not None:
        find_files(config.data.items, "data.items", skip_suffix=".inter")


def _check_model(config: Config) -> None:
    """A path of this machine; nodes of a cluster may have others, and names are the hub's to know."""
    model = config.llm.model
    if is_embedded(config.cluster.address) and model.startswith(_LOCAL) and not Path(model).expanduser().exists():
        raise UserError(
            f"llm.model: {model} is not there.",
            "Give a folder with a model's files, a GGUF file, or the name of a model on the hub.",
        )
