"""Fine-tuning of the LLM on a coreset by Ray Train and DeepSpeed: the driver's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from cluster.digest import digest
from cluster.errors import UserError
from cluster.progress import Progress
from cluster.storage import Storage
from training.llm.loading import load_tokenizer
from training.llm.prompts import PromptEncoder, load_template
from training.loops.examples import encode_examples
from training.loops.finetune_export import write_model
from training.loops.finetune_spec import FinetuneJob, FinetuneSpec
from training.loops.launch import Launch, launch_once
from training.loops.native_op import require_compiler
from training.loops.training_records import FinetuneLosses, FinetuneOutcome
from training.loops.worker_placement import living_nodes, require_resources


def finetune(
    spec: FinetuneSpec,
    train: pa.Table,
    valid: pa.Table,
    titles: Sequence[str],
    out: Storage,
    scratch: Storage,
    progress: Progress,
    provenance: Mapping[str, str] | None = None,
) -> FinetuneLosses:
    """Tune a LoRA adapter on `train`, keep the one with the lowest validation loss, and write it.

    Called again with the same settings, data and scratch after anything was killed, it goes on from the last
    checkpoint, on any number of workers. The same settings on the same number of workers give the same bytes.

    Parameters
    ----------
    train, valid : columns history list<int32> and target int32 (item indices); others are left alone.
    titles : the items' titles by index; `titles[0]` stands for padding.
    out : receives adapter_model.safetensors, adapter_config.json, README.md and losses.json.
    scratch : holds encoded examples and checkpoints; all nodes must reach it. It may go once `out` is complete.
    progress : counts optimizer steps.
    provenance : lines for the model card about where the samples come from, by name.

    Returns
    -------
    The content of losses.json; the first row of `valid` is that of the untuned model.

    Raises
    ------
    UserError : settings that do not go together, nothing to train or validate on, workers that the cluster cannot
        hold, no C++ compiler where DeepSpeed needs one, or a loss that is not finite.
    """
    settings, llm = spec.settings, spec.llm
    settings.check()
    for name, table in (("training", train), ("validation", valid)):
        if len(table) == 0:
            raise UserError(f"There is no {name} sample to fine-tune with.", "Give a larger log or coreset.")
    require_resources("finetune", settings.workers, spec.placement)
    if not spec.placement.use_gpu and len(living_nodes()) == 1:
        require_compiler()
    tokenizer = load_tokenizer(spec.source)
    encoder = PromptEncoder(tokenizer, load_template(llm.template), titles, llm.max_items, llm.max_tokens)
    encoded = {"train": encode_examples(train, encoder), "valid": encode_examples(valid, encoder)}
    stamp = spec.stamp({name: _content(table) for name, table in encoded.items()})
    environment = {"DS_ACCELERATOR": "cuda" if spec.placement.use_gpu else "cpu"}
    run = Launch.stamped("finetune", stamp, settings.workers, spec.placement, environment)
    folder = run.folder(scratch)
    for name, table in encoded.items():
        folder.child("examples").write_table(f"{name}.parquet", table)
    job = FinetuneJob(spec, folder, stamp, int(tokenizer.pad_token_id))
    outcome = launch_once(_loop, job, run, scratch, progress)
    return write_model(outcome, spec, {"train": len(train), "valid": len(valid)}, folder, out, provenance)


def _loop(job: FinetuneJob, progress: Progress) -> FinetuneOutcome:
    """Run the loop. DeepSpeed is imported here, on the workers alone."""
    from training.loops.finetune_loop import finetune_loop

    return finetune_loop(job, progress)


def _content(table: pa.Table) -> str:
    """Digest a table's values, however they are chunked."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return digest(sink.getvalue().to_pybytes())
