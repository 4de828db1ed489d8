"""Ranking the whole catalogue by generated texts (BIGRec's grounding, Bao et al., 2023).

A text's embedding is the LLM's final hidden state at its last token, with the adapter switched off. Items are ranked
by the L2 distance of their title to the best generated text.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from scoring.ragged import Ragged
from training.llm.memory import run_in_parts
from training.llm.prompts import EncodedPrompt, clean_title, leading_ids
from training.llm.token_batches import TokenBatch, pass_tokens, token_batches

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Embeddings = npt.NDArray[np.float32]


class TextEmbedder:
    """Embeds texts with a causal LM of transformers, or with the base model under a PEFT wrapper.

    `max_tokens` limits the cells of a batch, including padding; None is what suits the model's device.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int | None = None
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device = next(model.parameters()).device
        self.max_tokens = pass_tokens(self.device) if max_tokens is None else max_tokens
        adapted = hasattr(model, "disable_adapter")
        self._backbone = (model.get_base_model() if adapted else model).base_model
        self._leading = leading_ids(tokenizer)

    @property
    def width(self) -> int:
        """The size d of an embedding."""
        return int(self.model.get_output_embeddings().weight.shape[1])

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts, float32 [N, d]. Texts that are equal after cleaning are embedded once and get the same bytes."""
        unique, inverse = np.unique([clean_title(text) for text in texts], return_inverse=True)
        found = np.empty((len(unique), self.width), dtype=np.float32)
        encoded = [self._encode(str(text)) for text in unique]
        for batch in token_batches(encoded, self.tokenizer.pad_token_id, self.max_tokens):
            for rows, states in run_in_parts(self._last_states, batch):
                found[rows] = states
        return found[inverse]

    def embed_generated(self, texts: Sequence[str], titles: Sequence[str], known: Embeddings) -> Embeddings:
        """Embed texts, float32 [N, d]. A text that is a title gets exactly that title's row of `known`."""
        row_of = {clean_title(title): row for row, title in reversed(list(enumerate(titles)))}
        rows = np.array([row_of.get(clean_title(text), -1) for text in texts], dtype=np.int64)
        result = np.empty((len(texts), known.shape[1]), dtype=np.float32)
        result[rows >= 0] = known[rows[rows >= 0]]
        free = np.flatnonzero(rows < 0)
        if len(free):
            result[free] = self.embed([texts[row] for row in free.tolist()])
        return result

    def _encode(self, text: str) -> EncodedPrompt:
        ids = self._leading + list(self.tokenizer(text, add_special_tokens=False).input_ids)
        return EncodedPrompt(ids, len(ids))

    @torch.inference_mode()
    def _last_states(self, batch: TokenBatch) -> tuple[npt.NDArray[np.int64], Embeddings]:
        off: AbstractContextManager[object] = getattr(self.model, "disable_adapter", nullcontext)()
        with off:
            states = self._backbone(**batch.to(self.device).model_inputs(), use_cache=False).last_hidden_state
        return batch.rows, states[:, -1].float().cpu().numpy()


class TitleSpace:
    """The titles' embeddings [n, d], with row j for item j + 1, prepared once for many queries.

    Everything is measured from the catalogue's mean. The states share a large common part, which would otherwise drown
    the differences in rounding error and make all titles point in the same direction.
    """

    def __init__(self, titles: Embeddings) -> None:
        self.titles = titles
        self._centre = titles.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._centred = titles - self._centre
        self._squares = np.einsum("nd,nd->n", self._centred, self._centred)

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def directions(self) -> Embeddings:
        """Unit rows, float32 [n, d], whose inner products are the cosines of `similarities`."""
        return self._centred / np.sqrt(np.maximum(self._squares, np.float32(1e-24)))[:, None]

    def distances(self, generated: Embeddings) -> Embeddings:
        """Return the Euclidean distances of `generated` [U, d] to the titles, float32 [U, n]."""
        a = generated - self._centre
        squares = (a * a).sum(axis=1)[:, None] + self._squares[None] - 2 * (a @ self._centred.T)
        return np.sqrt(np.maximum(squares, 0), dtype=np.float32)

    def similarities(self, histories: Ragged) -> Embeddings:
        """Return each title's mean cosine similarity to the titles of a history, float32 [U, n]; 0 if it is empty.

        This is the zero-shot control: it shows what the embeddings alone can do. `histories`
        holds the items of each of the U users.
        """
        lengths = np.sqrt(np.maximum(self._squares, np.float32(1e-24)))
        shown = histories.values - 1
        queries = np.zeros((len(histories), self.titles.shape[1]), dtype=np.float32)
        np.add.at(queries, histories.row_of_value(), self._centred[shown] / lengths[shown, None])
        counts = np.maximum(histories.lengths, 1).astype(np.float32)
        return (queries / counts[:, None]) @ self._centred.T / lengths


def title_scores(generated: Embeddings, titles: TitleSpace, beams: Ragged | None = None) -> Embeddings:
    """Return each item's nearness to the generated texts, float32 [U, n], higher is better.

    Parameters
    ----------
    generated : the embedding of each user's best text, [U, d].
    beams : the items that constrained decoding found for each user, best first; they rank above all others.
    """
    scores = -titles.distances(generated)
    if beams is not None:
        _promote(scores, beams)
    return scores


def _promote(scores: Embeddings, beams: Ragged) -> None:
    """Lift the beams' items above the best of the others, keeping their order."""
    top = scores.max(axis=1)
    rank = np.arange(len(beams.values)) - np.repeat(beams.offsets[:-1], beams.lengths)
    row = beams.row_of_value()
    scores[row, beams.values - 1] = top[row] + (beams.lengths[row] - rank)
