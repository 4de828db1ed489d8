"""The coreset as a data set for fine-tuning elsewhere: what our own fine-tuning learns, as text and as token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline import __version__
from pipeline.engine.config import Config
from pipeline.engine.graph import Graph
from pipeline.engine.manifest import BEGUN, MANIFEST, environment, read_manifest
from pipeline.engine.selection_record import read_selection
from pipeline.export.export_card import Facts, dataset_card
from pipeline.export.export_formats import FORMATS, PREFIX, Sample, as_plain_text, llama_factory
from pipeline.export.exported_file import ExportedFile
from pipeline.stages.stage_list import stages_of
from training.llm.prompts import PromptEncoder, leading_ids, load_template
from training.loops.finetune_export import public_name

log = logging.getLogger("dealrec.run")

_CARD = "README.md"
#: What LLaMA-Factory reads.
_TOOLS = "dataset_info.json"


def export_coreset(config: Config, run: Storage, out: Storage, formats: Sequence[str]) -> list[ExportedFile]:
    """Write the run's coreset in each of the formats, keys of `FORMATS`, and return the files.

    Every file is written whole. The card is removed first and written last, so that a folder with a card is complete.

    Raises `UserError` when the coreset is not there, or is that of another config.
    """
    from pipeline.stages.finetune_stage import llm_spec
    from training.llm.loading import load_tokenizer

    graph = Graph(stages_of(config), config, run)
    select, ingest = graph.stage("select"), graph.stage("ingest")
    made = read_manifest(graph.folder(select))
    if made is None:
        raise UserError(
            f"{run.uri} holds no coreset.",
            "Run `dealrec run CONFIG --until select` first, or name the run directory of another run.",
        )
    graph.check([ingest, select])
    _require_own(out)
    coreset = graph.folder(select).read_table("coreset.parquet")
    items = graph.folder(ingest).read_table("items.parquet", ["item_id", "title"])
    tokenizer = load_tokenizer(llm_spec(config))
    samples = list(read_samples(config, tokenizer, coreset, items))
    out.delete(_CARD)
    files = []
    for name in formats:
        file, content = FORMATS[name]
        data = content(coreset, items, samples)
        if isinstance(data, pa.Table):
            out.write_table(file, data)
        else:
            out.write_text(file, data)
        files.append(ExportedFile(name, file, len(samples), out.size(file)))
    out.write_json(_TOOLS, llama_factory(formats))
    facts = Facts(
        provenance(config, graph),
        public_name(config.llm.model),
        config.finetune.tokens,
        samples=len(samples),
        differ=sum(not sample.as_text for sample in samples),
        longest=max((len(sample.input_ids) for sample in samples), default=0),
        leading=str(tokenizer.decode(leading_ids(tokenizer))),
    )
    out.write_text(_CARD, dataset_card(facts, formats))
    if facts.differ:
        log.warning(
            "%d of %d samples have other tokens when their text is tokenized whole; the format tokens has those that "
            "fine-tuning is given.",
            facts.differ,
            facts.samples,
        )
    return files


def _require_own(out: Storage) -> None:
    """Raise `UserError` where an export would replace what is not an export: a stage's files, or another data set's."""
    exported = out.exists(_TOOLS) and all(name.startswith(PREFIX) for name in out.read_json(_TOOLS))
    if out.exists(MANIFEST) or out.exists(BEGUN) or (not exported and (out.exists(_CARD) or out.exists(_TOOLS))):
        raise UserError(f"--out {out.uri} holds files of something else.", "Name a folder of its own.")


def read_samples(
    config: Config, tokenizer: PreTrainedTokenizerBase, coreset: pa.Table, items: pa.Table
) -> Iterator[Sample]:
    """Yield every row of the coreset, encoded as for fine-tuning."""
    from pipeline.stages.prompt_titles import shown_titles

    llm = config.llm
    titles = shown_titles(config, items.column("item_id").to_pylist(), items.column("title").to_pylist()).titles
    encoder = PromptEncoder(tokenizer, load_template(llm.template), titles, llm.max_items, llm.max_tokens)
    for history, target in zip(coreset["history"].to_pylist(), coreset["target"].to_pylist(), strict=True):
        encoded, rendered = encoder.encode(history, target), encoder.render(history, target)
        prompt, completion = as_plain_text(tokenizer, rendered)
        ids, start = encoded.input_ids, encoded.response_start
        whole = list(tokenizer(prompt + completion).input_ids)
        as_text = whole == ids and list(tokenizer(prompt).input_ids) == ids[:start]
        yield Sample(rendered, prompt, completion, ids, 1 if config.finetune.tokens == "all" else start, as_text)


def provenance(config: Config, graph: Graph) -> dict[str, str]:
    """Describe the samples, the rule that chose them, and the code."""
    select, data = (read_manifest(graph.folder(graph.stage(name))) for name in ("select", "ingest"))
    assert select is not None
    assert data is not None
    report = read_selection(graph.folder(graph.stage("select")))
    llm, commit = config.llm, environment()["commit"]
    template = llm.template if isinstance(llm.template, str) else llm.template.get("name", "custom")
    return {
        "samples": f"{report['chosen']:,} of {report['samples']:,}",
        "selector": f"{report['method']}, seed {report['seed']}",
        "sees the validation period": "yes" if report["sees_validation"] else "no",
        "prompt": f"template {template}, at most {llm.max_items} titles and {llm.max_tokens} tokens of "
        + public_name(llm.model),
        "coreset digest": select.content,
        "data digest": data.content,
        "code": f"dealrec {__version__}, commit {commit or 'unknown'}",
    }
