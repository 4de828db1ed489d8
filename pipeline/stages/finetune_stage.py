"""Stage finetune: LoRA on the coreset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cluster.digest import json_digest
from pipeline import __version__
from pipeline.engine.config import Config
from pipeline.engine.fingerprint import model_identity
from pipeline.engine.graph import StageContext
from pipeline.engine.manifest import environment, read_manifest
from pipeline.stages.prompt_titles import llm_titles
from pipeline.stages.trunk_home import trunk_cache
from pipeline.stages.worker_pools import require_llm, room_for_training, tuning_placement
from scoring.validation_halves import in_choosing_half
from training.llm.llm_spec import LLMSpec, LoraSpec
from training.llm.loading import expand_gguf, load_tokenizer
from training.loops.examples import Eligible, validation_examples
from training.loops.finetune_launch import FinetuneSpec, finetune
from training.loops.serving_export import write_serving
from training.loops.trunk_states import CacheSettings
from training.loops.worker_placement import Placement

CHECKPOINTS = "_checkpoints"
#: The keys of `evaluate` that say how titles are generated. They are written into `serving.json`.
DECODING_KEYS = frozenset({"decoding", "beams", "max_new_tokens", "length_penalty", "prior_correction"})


def llm_spec(config: Config) -> LLMSpec:
    """Return the model to load; a local path is absolute."""
    return config.llm.located().weights()


def llm_copy(context: StageContext) -> LLMSpec:
    """Return the model that workers read. A GGUF file is unpacked into the run once, which takes a while."""
    if context.run.remote:
        return llm_spec(context.config)
    return expand_gguf(llm_spec(context.config), Path(context.run.uri, "llm"))


def lora_spec(config: Config, dropout: float) -> LoraSpec:
    """Return the adapter. Effort scores are taken where fine-tuning starts: from the same seed, without dropout."""
    return config.finetune.adapter(dropout)


def finetune_spec(
    config: Config, model_copy: LLMSpec, placement: Placement, cache: CacheSettings | None = None
) -> FinetuneSpec:
    """Return the run's fine-tuning, with the model where workers read it."""
    return FinetuneSpec(config.llm.located(), config.finetune, model_copy.model, placement, cache or CacheSettings())


def run_finetune(context: StageContext) -> Mapping[str, object]:
    """Tune by Ray Train and DeepSpeed; killed workers and drivers continue from the last checkpoint."""
    data, config = context.folder("ingest"), context.config
    coreset = context.folder("select").read_table("coreset.parquet")
    valid = validation_examples(data, config.finetune.valid_users, config.finetune.seed, stopping_users(config))
    scratch = context.out.child(CHECKPOINTS)
    placement = tuning_placement(config)
    titles = llm_titles(config, data)
    room_for_training(context, "finetune", config.finetune.workers, placement)
    require_llm(context, placement.use_gpu)
    losses = finetune(
        finetune_spec(config, llm_copy(context), placement, trunk_cache(config, context.run)),
        coreset,
        valid,
        titles.titles,
        context.out,
        scratch,
        context.progress,
        provenance(context),
    )
    tokenizer = load_tokenizer(llm_copy(context))
    decoding = config.evaluate.model_dump(mode="json", include=set(DECODING_KEYS))
    write_serving(config.llm, tokenizer, titles.titles, titles.item_ids, decoding, context.out)
    scratch.delete("")
    return {**{key: value for key, value in losses.items() if key not in ("train", "valid")}, **titles.facts()}


def stopping_users(config: Config) -> Eligible | None:
    """Return the validation users whose loss stops the tuning; None for all.

    The same users stop all arms of a comparison, whatever the arms are aimed at. No aimed selection looks at these
    users, because a coreset that holds their samples would be stopped by its own training loss.
    """
    return _in_other_half if config.select.reference_users == "half" else None


def _in_other_half(sample_id: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which users are not in the aimed half, bool [U]; all of them if that half holds every validation user."""
    unseen = in_choosing_half(sample_id)
    return unseen if unseen.any() else np.ones_like(unseen)


def provenance(context: StageContext) -> dict[str, str]:
    """Return the model card's account of the run: which samples, by which rule, and by which code."""
    select, data = read_manifest(context.folder("select")), read_manifest(context.folder("ingest"))
    assert select is not None
    assert data is not None
    section, made_by = context.config.select, environment()
    share = f"{select.facts['chosen']} of {select.facts['samples']} samples"
    return {
        "base model digest": json_digest(model_identity(context.config.llm.model)),
        "coreset": f"{section.method}, {share}, seed {section.seed}",
        "coreset digest": select.content,
        "data digest": data.content,
        "code": f"dealrec {__version__}, commit {made_by['commit'] or 'unknown'}",
    }
