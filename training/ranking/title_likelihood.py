"""The log-probability of every title of a catalogue as the answer to a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from training.llm.memory import run_in_parts
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import TokenBatch, collate, token_batches
from training.ranking.shared_prompt import SharedPrompts
from training.ranking.title_packs import pack_titles

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

#: Tokens of titles that are read in one pass. More of them use a GPU better; on a CPU they only add masked work.
_PACK_TOKENS = {"cpu": 256, "cuda": 1024}


class TitleLikelihood:
    """Scores n responses, each the ids of a quoted title and the end-of-sequence token.

    A prompt is read once, and behind it the tree of the responses, pack by pack. A model that cannot share a prompt
    reads prompt and response as one sequence for each response.

    Parameters
    ----------
    model : a causal LM of transformers or a PEFT wrapper of one.
    share : whether `training.ranking.sharing.shares_prompts` holds.
    batch_tokens : tokens of a batch of whole sequences, padding included.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        responses: Sequence[Sequence[int]],
        pad_id: int,
        share: bool,
        batch_tokens: int = 4096,
    ) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device
        self._pad = pad_id
        self._batch_tokens = batch_tokens
        # Items that share a title are read once.
        rows: dict[tuple[int, ...], int] = {}
        self._row_of = np.array([rows.setdefault(tuple(ids), len(rows)) for ids in responses], dtype=np.int64)
        self._responses = [list(ids) for ids in rows]
        most = _PACK_TOKENS.get(self._device.type, _PACK_TOKENS["cuda"])
        self._packs = [pack.to(self._device) for pack in pack_titles(self._responses, most)] if share else None

    def score(self, prompt: EncodedPrompt) -> npt.NDArray[np.float32]:
        """Return the log-probability of each response behind a prompt without one, float32 [n].

        Raises `UserError` if a single sequence does not fit in memory.
        """
        unique = self._by_sequences(prompt) if self._packs is None else self._by_packs(prompt)
        scores: npt.NDArray[np.float32] = unique.astype(np.float32)[self._row_of]
        return scores

    def _by_packs(self, prompt: EncodedPrompt) -> npt.NDArray[np.float64]:
        return run_in_parts(self._read_packs, collate([prompt], self._pad))[0]

    @torch.inference_mode()
    def _read_packs(self, batch: TokenBatch) -> npt.NDArray[np.float64]:
        assert self._packs is not None
        prompts = SharedPrompts(self._model, batch.to(self._device))
        found = torch.empty(len(self._responses), dtype=torch.float64, device=self._device)
        for pack in self._packs:
            logits = prompts.read(pack.tokens[None], pack.visible[None], pack.depths[None])
            prompts.forget(len(pack))
            found[pack.rows] = pack.log_probs(prompts.logits[0], logits[0])
        return found.cpu().numpy()

    def _by_sequences(self, prompt: EncodedPrompt) -> npt.NDArray[np.float64]:
        ids = prompt.input_ids
        encoded = [EncodedPrompt([*ids, *response], len(ids)) for response in self._responses]
        found = np.empty(len(encoded))
        for batch in token_batches(encoded, self._pad, self._batch_tokens):
            done = 0
            for part in run_in_parts(self._read_sequences, batch):
                found[batch.rows[done : done + len(part)]] = part
                done += len(part)
        return found

    @torch.inference_mode()
    def _read_sequences(self, batch: TokenBatch) -> npt.NDArray[np.float64]:
        batch, keep = batch.to(self._device), batch.logits_to_keep
        logits = self._model(**batch.model_inputs(), use_cache=False, logits_to_keep=keep).logits[:, -keep:-1].float()
        labels = batch.labels[:, 1 - keep :]
        inside = labels >= 0
        found = logits.gather(2, labels.clamp(min=0)[:, :, None])[:, :, 0] - logits.logsumexp(dim=-1)
        return found.masked_fill(~inside, 0.0).double().sum(dim=1).cpu().numpy()
