"""Inputs of the LLM benchmarks: a model, titles, and samples of a log."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.contest import CLOCKS
from cluster.errors import UserError
from cluster.project_root import PROJECT_ROOT
from cluster.storage import Storage
from pipeline.demo.prepare import prepare_llm, prepare_log
from pipeline.engine.sample_tables import read_titles
from training.llm.llm_spec import LLMSpec
from training.llm.loading import load_tokenizer
from training.llm.prompts import PromptEncoder, load_template
from training.loops.array_columns import read_parts

CACHE = PROJECT_ROOT / ".cache" / "demo"
_COLUMNS = ("user_id", "item_id", "title", "timestamp")
_HISTORY = 20


@dataclass(frozen=True)
class Inputs:
    """A model and samples for it. Histories and targets are item indices; `titles[0]` is padding."""

    llm: LLMSpec
    titles: list[str]
    histories: list[list[int]]
    targets: list[int]

    def encoder(self, max_items: int, max_tokens: int = 512) -> PromptEncoder:
        return PromptEncoder(load_tokenizer(self.llm), load_template("neutral"), self.titles, max_items, max_tokens)


def parser(description: str | None, samples: int, repeats: int) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all LLM benchmarks share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--model", help="folder or hub name of a causal LM; by default the demo's SmolLM2-135M")
    made.add_argument("--data", help="run directory, or Parquet log with " + ", ".join(_COLUMNS) + "; else the demo's")
    made.add_argument("--dtype", default="bfloat16", help="dtype of the weights")
    made.add_argument("--samples", type=int, default=samples, help="number of samples")
    made.add_argument("--max-items", type=int, default=5, help="titles of the history in a prompt")
    made.add_argument("--repeats", type=int, default=repeats, help="repetitions, each of all contenders in turn")
    made.add_argument("--threads", type=int, default=1, help="number of torch threads")
    made.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="wall time, or this process's CPU time")
    return made


def read_inputs(arguments: argparse.Namespace) -> Inputs:
    """Read the model and the first samples that the arguments specify."""
    torch.set_num_threads(arguments.threads)
    llm = LLMSpec(arguments.model or str(prepare_llm(CACHE)), arguments.dtype)
    where = arguments.data or str(prepare_log(CACHE))
    titles, histories, targets = _of_run(where) if Path(where).is_dir() else _of_log(where)
    count = arguments.samples
    if len(targets) < count:
        raise UserError(f"{where} has {len(targets)} samples, fewer than {count}.", "Lower --samples.")
    return Inputs(llm, titles, histories[:count], targets[:count])


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def examples_table(histories: Sequence[list[int]], targets: Sequence[int]) -> pa.Table:
    """Return the columns that fine-tuning reads."""
    columns: dict[str, pa.Array] = {
        "history": pa.array(histories, pa.list_(pa.int32())),
        "target": pa.array(targets, pa.int32()),
    }
    return pa.table(columns)


def _of_run(where: str) -> tuple[list[str], list[list[int]], list[int]]:
    data = Storage.at(where).child("data")
    table = read_parts(data.child("samples", "train"), ["history", "target"], "train samples")
    return read_titles(data), table.column("history").to_pylist(), table.column("target").to_pylist()


def _of_log(where: str) -> tuple[list[str], list[list[int]], list[int]]:
    """Return each user's last item as the target of the items before it."""
    log = pq.read_table(where, columns=list(_COLUMNS))
    items = log.group_by("item_id", use_threads=False).aggregate([("title", "first")]).sort_by("item_id")
    index = {item: number for number, item in enumerate(items.column("item_id").to_pylist(), start=1)}
    ordered = log.sort_by([("user_id", "ascending"), ("timestamp", "ascending"), ("item_id", "ascending")])
    sequences: dict[object, list[int]] = {}
    for user, item in zip(ordered.column("user_id").to_pylist(), ordered.column("item_id").to_pylist(), strict=True):
        sequences.setdefault(user, []).append(index[item])
    kept = [sequence[-_HISTORY - 1 :] for sequence in sequences.values() if len(sequence) > 1]
    titles = ["", *items.column("title_first").to_pylist()]
    return titles, [sequence[:-1] for sequence in kept], [sequence[-1] for sequence in kept]
