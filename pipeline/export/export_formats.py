"""The files of an export: each format's content, and how other tools are told of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerBase

from training.llm.prompts import RenderedPrompt, leading_ids
from training.llm.token_batches import IGNORED

#: The user's turn and the answer, as ShareGPT's files name them.
_HUMAN, _MODEL = "human", "gpt"
#: The prefix of the data sets' names in `dataset_info.json`.
PREFIX = "dealrec_"


@dataclass(frozen=True)
class Sample:
    """One sample as fine-tuning is given it.

    Attributes
    ----------
    rendered : its text in parts.
    prompt, completion : its text in two, for tools that put the tokenizer's leading tokens before it; the completion
        ends with the end-of-sequence token.
    input_ids : its tokens.
    learnt_from : the first token that is learnt.
    as_text : whether the two texts, tokenized, are these tokens, the completion from where the response starts.
    """

    rendered: RenderedPrompt
    prompt: str
    completion: str
    input_ids: Sequence[int]
    learnt_from: int
    as_text: bool


def as_plain_text(tokenizer: PreTrainedTokenizerBase, rendered: RenderedPrompt) -> tuple[str, str]:
    """Return `prompt` and `completion` of a sample.

    A chat template prints leading tokens that the tokenizer would put before the text once more; these are left out.
    """
    prompt = rendered.text.removesuffix(rendered.output)
    leading = leading_ids(tokenizer)
    return prompt.removeprefix(str(tokenizer.decode(leading))), f"{rendered.output}{tokenizer.eos_token}"


def _rendered(samples: Iterable[Sample]) -> Iterator[RenderedPrompt]:
    return (sample.rendered for sample in samples)


def _alpaca(coreset: pa.Table, items: pa.Table, samples: Sequence[Sample]) -> str:
    return _lines({"instruction": p.instruction, "input": p.input, "output": p.output} for p in _rendered(samples))


def _sharegpt(coreset: pa.Table, items: pa.Table, samples: Sequence[Sample]) -> str:
    turns = ([{"from": _HUMAN, "value": p.turn}, {"from": _MODEL, "value": p.output}] for p in _rendered(samples))
    return _lines({"conversations": turn} for turn in turns)


def _messages(coreset: pa.Table, items: pa.Table, samples: Sequence[Sample]) -> str:
    turns = (
        [{"role": "user", "content": p.turn}, {"role": "assistant", "content": p.output}] for p in _rendered(samples)
    )
    return _lines({"messages": turn} for turn in turns)


def _completions(coreset: pa.Table, items: pa.Table, samples: Sequence[Sample]) -> str:
    return _lines({"prompt": sample.prompt, "completion": sample.completion} for sample in samples)


def _tokens(coreset: pa.Table, items: pa.Table, samples: Sequence[Sample]) -> pa.Table:
    """Return token ids and labels, -100 where nothing is learnt: what trainers take without a tokenizer."""
    labels = [[*[IGNORED] * sample.learnt_from, *sample.input_ids[sample.learnt_from :]] for sample in samples]
    ids = [list(sample.input_ids) for sample in samples]
    columns = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "labels": labels}
    return pa.table({name: pa.array(rows, pa.list_(pa.int32())) for name, rows in columns.items()})


def _parquet(coreset: pa.Table, items: pa.Table, samples: Sequence[Sample]) -> pa.Table:
    """Return the texts beside what the run knows of each sample; items by the ids of the log."""
    ids, history = items["item_id"], coreset["history"].combine_chunks()
    named = pa.ListArray.from_arrays(history.offsets, ids.take(pc.subtract(history.values, 1)).combine_chunks())
    table = coreset.drop_columns(["history", "target"])
    table = table.append_column("history", named).append_column("target", ids.take(pc.subtract(coreset["target"], 1)))
    for name in ("instruction", "input", "output", "text"):
        table = table.append_column(
            name, pa.array([getattr(prompt, name) for prompt in _rendered(samples)], pa.string())
        )
    return table


def _lines(rows: Iterator[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


Content = Callable[[pa.Table, pa.Table, Sequence[Sample]], str | pa.Table]

#: Name of a format → its file, and what is in it.
FORMATS: Mapping[str, tuple[str, Content]] = {
    "alpaca": ("alpaca.jsonl", _alpaca),
    "sharegpt": ("sharegpt.jsonl", _sharegpt),
    "messages": ("messages.jsonl", _messages),
    "completions": ("completions.jsonl", _completions),
    "tokens": ("tokens.parquet", _tokens),
    "parquet": ("coreset.parquet", _parquet),
}

#: The module of Hugging Face's `datasets` that reads each format.
READERS: Mapping[str, str] = {
    name: "parquet" if file.endswith(".parquet") else "json" for name, (file, _) in FORMATS.items()
}


def llama_factory(formats: Sequence[str]) -> dict[str, Any]:
    """Return `dataset_info.json`, by which LLaMA-Factory knows the files of a folder."""
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
        "completions": {"columns": {"prompt": "prompt", "response": "completion"}},
    }
    return {f"{PREFIX}{name}": {"file_name": FORMATS[name][0], **columns[name]} for name in formats if name in columns}
