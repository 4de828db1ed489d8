"""The coreset as a data set for fine-tuning elsewhere: the prompts that our own fine-tuning is given, as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline import __version__
from pipeline.config import Config
from pipeline.graph import Graph
from pipeline.manifest import BEGUN, MANIFEST, environment, read_manifest
from pipeline.stages.catalogue import stages_of
from training.finetune_export import public_name
from training.prompts import PromptEncoder, RenderedPrompt, load_template

#: The user's turn and the answer, as ShareGPT's files name them.
_HUMAN, _MODEL = "human", "gpt"
_CARD = "README.md"
#: What LLaMA-Factory reads.
_TOOLS = "dataset_info.json"
#: Of the names of the data sets in it.
_PREFIX = "dealrec_"


def export_coreset(config: Config, run: Storage, out: Storage, formats: Sequence[str]) -> list[dict[str, Any]]:
    """Write the run's coreset in each of the formats, keys of `FORMATS`, and a row for each file.

    Every file is written whole. The card is removed first and written last, so that a folder with a card is complete.

    Raises `UserError` when the coreset is not there, or is that of another config.
    """
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
    prompts = list(rendered(config, coreset, items))
    out.delete(_CARD)
    rows = []
    for name in formats:
        file, content = FORMATS[name]
        data = content(coreset, items, prompts)
        if isinstance(data, pa.Table):
            out.write_table(file, data)
        else:
            out.write_text(file, data)
        rows.append({"format": name, "file": file, "samples": len(prompts), "bytes": out.size(file)})
    out.write_json(_TOOLS, _llama_factory(formats))
    out.write_text(_CARD, dataset_card(config, provenance(config, graph), formats))
    return rows


def _require_own(out: Storage) -> None:
    """Raise `UserError` where an export would replace what is not an export: a stage's files, or another data set's."""
    exported = out.exists(_TOOLS) and all(name.startswith(_PREFIX) for name in out.read_json(_TOOLS))
    if out.exists(MANIFEST) or out.exists(BEGUN) or (not exported and (out.exists(_CARD) or out.exists(_TOOLS))):
        raise UserError(f"--out {out.uri} holds files of something else.", "Name a folder of its own.")


def rendered(config: Config, coreset: pa.Table, items: pa.Table) -> Iterator[RenderedPrompt]:
    """The prompt of every row of the coreset, by the encoder that fine-tuning uses."""
    from pipeline.stages.finetune import llm_spec
    from training.llm import load_tokenizer

    llm = config.llm
    titles = ["", *items.column("title").to_pylist()]
    template = load_template(llm.template)
    encoder = PromptEncoder(load_tokenizer(llm_spec(config)), template, titles, llm.max_items, llm.max_tokens)
    for history, target in zip(coreset["history"].to_pylist(), coreset["target"].to_pylist(), strict=True):
        yield encoder.render(history, target)


def _alpaca(coreset: pa.Table, items: pa.Table, prompts: Sequence[RenderedPrompt]) -> str:
    return _lines({"instruction": p.instruction, "input": p.input, "output": p.output} for p in prompts)


def _sharegpt(coreset: pa.Table, items: pa.Table, prompts: Sequence[RenderedPrompt]) -> str:
    turns = ([{"from": _HUMAN, "value": p.turn}, {"from": _MODEL, "value": p.output}] for p in prompts)
    return _lines({"conversations": turn} for turn in turns)


def _messages(coreset: pa.Table, items: pa.Table, prompts: Sequence[RenderedPrompt]) -> str:
    turns = ([{"role": "user", "content": p.turn}, {"role": "assistant", "content": p.output}] for p in prompts)
    return _lines({"messages": turn} for turn in turns)


def _parquet(coreset: pa.Table, items: pa.Table, prompts: Sequence[RenderedPrompt]) -> pa.Table:
    """The texts beside what the run knows of each sample; items by the ids of the log."""
    ids, history = items["item_id"], coreset["history"].combine_chunks()
    named = pa.ListArray.from_arrays(history.offsets, ids.take(pc.subtract(history.values, 1)).combine_chunks())
    table = coreset.drop_columns(["history", "target"])
    table = table.append_column("history", named).append_column("target", ids.take(pc.subtract(coreset["target"], 1)))
    for name in ("instruction", "input", "output", "text"):
        table = table.append_column(name, pa.array([getattr(prompt, name) for prompt in prompts], pa.string()))
    return table


def _lines(rows: Iterator[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


Content = Callable[[pa.Table, pa.Table, Sequence[RenderedPrompt]], str | pa.Table]

#: Name of a format → its file, and what is in it.
FORMATS: Mapping[str, tuple[str, Content]] = {
    "alpaca": ("alpaca.jsonl", _alpaca),
    "sharegpt": ("sharegpt.jsonl", _sharegpt),
    "messages": ("messages.jsonl", _messages),
    "parquet": ("coreset.parquet", _parquet),
}

#: By which module of Hugging Face's `datasets` each format is read.
_READERS: Mapping[str, str] = {"alpaca": "json", "sharegpt": "json", "messages": "json", "parquet": "parquet"}


def _llama_factory(formats: Sequence[str]) -> dict[str, Any]:
    """`dataset_info.json`, by which LLaMA-Factory knows the files of a folder."""
    columns: dict[str, dict[str, Any]] = {
        "alpaca": {"columns": {"prompt": "instruction", "query": "input", "response": "output"}},
        "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations"}},
        "messages": {
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
            },
        },
    }
    return {f"{_PREFIX}{name}": {"file_name": FORMATS[name][0], **columns[name]} for name in formats if name in columns}


def provenance(config: Config, graph: Graph) -> dict[str, str]:
    """Which samples these are, by which rule they were chosen, and by which code."""
    select, data = (read_manifest(graph.folder(graph.stage(name))) for name in ("select", "ingest"))
    assert select is not None
    assert data is not None
    report = graph.folder(graph.stage("select")).read_json("selection.json")
    llm, commit = config.llm, environment()["commit"]
    template = llm.template if isinstance(llm.template, str) else llm.template.get("name", "custom")
    return {
        "samples": f"{report['chosen']:,} of {report['samples']:,}",
        "selector": f"{report['method']}, seed {report['seed']}",
        "sees the validation period": "yes" if report["sees_validation"] else "no",
        "prompt": f"template {template}, at most {llm.max_items} titles and {llm.max_tokens} tokens of {_llm(config)}",
        "coreset digest": select.content,
        "data digest": data.content,
        "code": f"dealrec {__version__}, commit {commit or 'unknown'}",
    }


def _llm(config: Config) -> str:
    return public_name(config.llm.model)


def dataset_card(config: Config, facts: Mapping[str, str], formats: Sequence[str]) -> str:
    """README.md of the data set, in the form that data hubs read: configurations of the files.

    `datasets` opens all configurations of a folder with the reader of the first, so only files of one reader have one.
    """
    listed = [name for name in formats if _READERS[name] == _READERS[formats[0]]]
    configs = [f"- config_name: {name}\n  data_files: {FORMATS[name][0]}" for name in listed]
    front = "\n".join(["---", "tags: [recommendation]", "configs:", *configs, "---"])
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    loads = "\n".join(f'load_dataset("{_READERS[name]}", data_files="{FORMATS[name][0]}")' for name in formats)
    return f"""{front}

# Coreset of a recommendation log

Histories of titles and the title that came next: samples of a log, chosen to fine-tune a language model on.

| | |
|---|---|
{table}

```python
from datasets import load_dataset

{loads}
```

`dataset_info.json` is for LLaMA-Factory: `dataset_dir` is this folder. TRL takes `messages.jsonl` as it is; Axolotl
takes `alpaca.jsonl` with `type: alpaca`, `messages.jsonl` with `type: chat_template`. The text is that of the run's own
fine-tuning, to the byte: `text` of the Parquet file, or what the user says and the answer of the chat files,
joined (in the chat layout by the chat template of {_llm(config)}). Fine-tuning puts the tokenizer's leading
tokens before it and the end-of-sequence token after it, and learns the answer alone unless `finetune.tokens` is
`all`. The Alpaca file has the parts of the same text; the tool puts its own headings between them.
"""
