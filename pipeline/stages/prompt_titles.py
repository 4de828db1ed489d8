"""The titles as the LLM sees them: those that are too long for a prompt are cut, once for all uses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.engine.config import Config
from pipeline.engine.manifest import read_manifest
from training.llm.loading import load_tokenizer
from training.llm.long_titles import CutTitle, cut_titles, title_lengths, title_room
from training.llm.prompts import PromptEncoder, load_template

log = logging.getLogger("dealrec.run")

#: The file in the run directory that lists every title that was cut.
LONG_TITLES = "long_titles.json"
_SHOWN = 5
_LISTED = 20
#: The last result of `llm_titles`, kept because the tokenizer takes many seconds for a large catalogue.
_LAST: dict[tuple[str, str, str | None], LlmTitles] = {}


@dataclass(frozen=True)
class LlmTitles:
    """The titles of a catalogue.

    Attributes
    ----------
    titles : the titles by item index, cut where they were too long; the first one, of the padding, is empty.
    item_ids : the log's ids of the items, from item 1.
    cut : the titles that were cut, in the order of the items.
    room : the number of tokens that a title may take.
    """

    titles: list[str]
    item_ids: Sequence[str]
    cut: Sequence[CutTitle]
    room: int

    def facts(self) -> dict[str, object]:
        """Return facts for a manifest: how many titles were cut, at how many tokens, and the first by the log's ids."""
        ids = [self.item_ids[title.row] for title in self.cut[:_LISTED]]
        return {"long_titles": {"cut": len(self.cut), "of": len(self.item_ids), "tokens": self.room, "items": ids}}

    def rows(self) -> list[dict[str, object]]:
        """Return a row for every title that was cut: the item's id, its tokens, the title, and what is shown of it."""
        return [
            {"item": self.item_ids[title.row], "tokens": title.tokens, "title": title.whole, "shown": title.shown}
            for title in self.cut
        ]


def llm_titles(config: Config, data: Storage) -> LlmTitles:
    """Return the titles of an ingested catalogue as the LLM sees them.

    A process that calls this again in a later stage gets the same result without computing it again.

    Raises `UserError` for long titles where llm.long_titles is error, naming the first by the log's ids.
    """
    made = read_manifest(data)
    key = (config.llm.model_dump_json(), data.uri, None if made is None else made.content)
    found = _LAST.get(key)
    if found is None or made is None:
        table = data.read_table("items.parquet", ["item_id", "title"])
        found = shown_titles(config, table.column("item_id").to_pylist(), table.column("title").to_pylist())
        _LAST.clear()
        _LAST[key] = found
    return found


def shown_titles(config: Config, item_ids: Sequence[str], titles: Sequence[str]) -> LlmTitles:
    """Cut given titles like `llm_titles`, row for row."""
    encoder = title_encoder(config)
    room = title_room(encoder, config.llm.max_title_tokens)
    cut = cut_titles(encoder, titles, room)
    if cut and config.llm.long_titles == "error":
        longest = max(cut, key=lambda title: title.tokens)
        raise UserError(
            f"{_count(len(cut), len(titles), room)}: {_named([item_ids[title.row] for title in cut])}; the longest is "
            f"item {item_ids[longest.row]} with {longest.tokens:,}.",
            "Set llm.long_titles to cut or drop, shorten them in the catalogue, or raise llm.max_title_tokens and "
            "llm.max_tokens.",
        )
    shown = ["", *titles]
    for title in cut:
        shown[title.row + 1] = title.shown
    return LlmTitles(shown, item_ids, cut, room)


def title_encoder(config: Config) -> PromptEncoder:
    """Build the encoder that measures titles, from the config's tokenizer and template."""
    from pipeline.stages.finetune_stage import llm_spec

    llm = config.llm
    return PromptEncoder(
        load_tokenizer(llm_spec(config)), load_template(llm.template), [""], llm.max_items, llm.max_tokens
    )


def long_titles(config: Config) -> Callable[[Sequence[str]], npt.NDArray[np.bool_]]:
    """Mark the titles, bool [n], that take more tokens than a title may."""
    encoder = title_encoder(config)
    room = title_room(encoder, config.llm.max_title_tokens)
    return lambda titles: title_lengths(encoder, titles) > room


def announce_titles(config: Config, run: Storage, data: Storage) -> None:
    """Log once which titles are cut, and list all of them in the run directory. Raises like `llm_titles`."""
    found = llm_titles(config, data)
    if not found.cut:
        run.delete(LONG_TITLES)
        return
    run.write_json(LONG_TITLES, found.rows())
    log.warning(
        "%s and are cut for the LLM, as %s lists: %s. Raise llm.max_title_tokens and llm.max_tokens to show more of "
        "them, or set llm.long_titles to drop or error.",
        _count(len(found.cut), len(found.item_ids), found.room),
        run.child(LONG_TITLES).uri,
        _named([found.item_ids[title.row] for title in found.cut]),
    )


def _count(cut: int, of: int, room: int) -> str:
    verb = "titles take" if cut != 1 else "title takes"
    return f"{cut:,} of {of:,} {verb} more than {room} tokens"


def _named(item_ids: Sequence[str]) -> str:
    more = len(item_ids) - _SHOWN
    kind = "items" if len(item_ids) > 1 else "item"
    return f"{kind} {', '.join(item_ids[:_SHOWN])}" + (f" and {more:,} more" if more > 0 else "")
