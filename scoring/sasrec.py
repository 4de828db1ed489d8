"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018).

Causal self-attention over the items of a history, pre-norm blocks, and scores by inner product with the same item
embeddings that are read (tied). Histories are right-padded, so under the causal mask no real position ever sees
padding. Positions count from the oldest item in the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn

from scoring.batching import HistoryBatch, SequenceBatch
from scoring.cross_entropy import catalogue_cross_entropy
from scoring.encoded import EncodedLimits, EncodedObjective
from scoring.exceptions import SettingError
from scoring.head import CatalogueHead, Head, SampledHead
from scoring.losses import BinaryLoss, OutputLoss, SoftmaxLoss
from scoring.negatives import draw_negatives, proposal
from scoring.surrogate_model import Surrogate, SurrogateSettings
from scoring.transformer import Block

LOSSES = ("softmax", "sampled", "bce")
_INIT_STD = 0.02


@dataclass(frozen=True)
class SASRecConfig:
    """Size and loss of a SASRec.

    Attributes
    ----------
    item_count : V; items are 1..V.
    max_history : T, the longest history it reads.
    hidden : d, the size of a state.
    blocks, heads : number of blocks and of attention heads.
    dropout : dropout rate on embeddings, attention weights and both branches of a block; training only.
    loss : `softmax` over the whole catalogue; `sampled`, its importance-weighted estimate for large catalogues; or
        `bce`, the target against sampled negatives.
    negatives : K, number of negatives for `sampled` and `bce`, drawn with replacement and shared by a batch.
    seed : seed of the initial weights and of the frozen negatives used in scoring.
    """

    item_count: int
    max_history: int = 50
    hidden: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.2
    loss: str = "softmax"
    negatives: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.item_count, self.max_history, self.hidden, self.blocks, self.heads, self.negatives) < 1:
            raise SettingError(f"the sizes of a SASRec must be at least 1, got {self}")
        if self.hidden % self.heads:
            raise SettingError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.loss not in LOSSES:
            raise SettingError(f"unknown surrogate loss {self.loss!r}; choose one of {', '.join(LOSSES)}")


class SASRec(Surrogate):
    """The SASRec surrogate, described in this module's docstring.

    Parameters
    ----------
    config : sizes and loss.
    item_counts : train interactions of items 1..V, [V], for the proposal of the sampled softmax; None for a uniform
        proposal.
    """

    frozen_negatives: Tensor
    proposal: Tensor

    def __init__(self, config: SASRecConfig, item_counts: Sequence[int] | Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(config.item_count + 1, config.hidden, padding_idx=0)
        self.position_embedding = nn.Embedding(config.max_history, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config.hidden, config.heads, config.dropout) for _ in range(config.blocks))
        self.final_norm = nn.LayerNorm(config.hidden)
        counts = item_counts if config.loss == "sampled" else None
        self.register_buffer("proposal", proposal(config.item_count, counts))
        frozen = draw_negatives(self.proposal, config.negatives, torch.Generator().manual_seed(config.seed))
        self.register_buffer("frozen_negatives", frozen)
        self._initialise()

    @property
    def item_count(self) -> int:
        return self.config.item_count

    @property
    def output_count(self) -> int:
        return self.head.width(self.item_count)

    def config_dict(self) -> SurrogateSettings:
        return asdict(self.config)

    def scopes(self) -> dict[str, tuple[str, ...]]:
        """Return the scopes by name: by default both linear layers after the last attention, then others."""
        last = f"blocks.{len(self.blocks) - 1}"
        return {
            "last_feed_forward": (f"{last}.feed_forward.*",),
            "last_layer": (f"{last}.feed_forward.outer.*",),
            "last_block": (f"{last}.attention.*", f"{last}.feed_forward.*"),
            "linear": ("blocks.*.attention.*", "blocks.*.feed_forward.*"),
            "all": ("*",),
        }

    # Encoding

    def embed(self, history: Tensor) -> Tensor:
        """Embed item indices [B, T] as [B, T, d]; T must not exceed `max_history`."""
        if history.shape[1] > self.config.max_history:
            raise SettingError(
                f"a history of {history.shape[1]} items exceeds the surrogate's {self.config.max_history}"
            )
        items = self.item_embedding(history) * self.config.hidden**0.5
        return self.dropout(items + self.position_embedding.weight[: history.shape[1]])

    def states_before(self, depth: int, history: Tensor, lengths: Tensor) -> Tensor:
        """Return the input of block `depth`, [B, T, d]; for depth = blocks, the last block after attention, [B, d]."""
        states = self.embed(history)
        for block in self.blocks[: min(depth, len(self.blocks) - 1)]:
            states = block(states)
        return self._attend_last(states, lengths) if depth == len(self.blocks) else states

    def encode_from(self, depth: int, states: Tensor, lengths: Tensor) -> Tensor:
        """Return the last position after the remaining layers, [B, d]. The last block computes only that position."""
        if depth < len(self.blocks):
            for block in self.blocks[depth:-1]:
                states = block(states)
            states = self._attend_last(states, lengths)
        return self.final_norm(cast(Block, self.blocks[-1]).feed(states))

    def encode(self, history: Tensor, lengths: Tensor) -> Tensor:
        """Encode each history at its last item, [B, d]. An empty history gives the model's prior for unknown users."""
        return self.encode_from(0, self.embed(history), lengths)

    def logits(self, encoded: Tensor) -> Tensor:
        """Return a score for each item, [B, V]; column j is item j + 1."""
        return encoded @ self.item_embedding.weight[1:].T

    # Losses

    @property
    def head(self) -> Head:
        """The map from an encoded history to the outputs on which the frozen scoring loss is defined."""
        if self.config.loss == "softmax":
            return CatalogueHead()
        return self._sampled_head(self.frozen_negatives)

    @property
    def criterion(self) -> OutputLoss[HistoryBatch]:
        return BinaryLoss() if self.config.loss == "bce" else SoftmaxLoss(self.head.target_column)

    def outputs(self, batch: HistoryBatch) -> Tensor:
        """Return the scores of the candidates at the last position, [B, C]."""
        return self.head(self.encode(batch.history, batch.lengths), self.item_embedding.weight, batch)

    def sequence_loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> tuple[Tensor, int]:
        """Return Σ of the loss over every counted position of a batch of windows, and the number of positions.

        Negatives are drawn from `generator` (on the CPU), one set per call. Without one, the frozen negatives of
        scoring are used.
        """
        states = self.embed(batch.inputs)
        for block in self.blocks:
            states = block(states)
        counted = batch.counted
        hidden = self.final_norm(states[counted])
        target = batch.targets[counted]
        if self.config.loss == "softmax":
            loss = catalogue_cross_entropy(hidden, self.item_embedding.weight[1:], target - 1)
            return loss, len(target)
        negatives = self.frozen_negatives
        if generator is not None:
            negatives = draw_negatives(self.proposal, self.config.negatives, generator)
        scores = self._sampled_head(negatives).scores(hidden, self.item_embedding.weight, target)
        flat = HistoryBatch(history=target[:, None], lengths=torch.ones_like(target), target=target)
        return self.criterion.loss(scores, flat).sum(), len(target)

    def reduced(self, names: Sequence[str], limits: EncodedLimits | None = None) -> EncodedObjective | None:
        """Return the same losses as functions of the encoded history; None if a name belongs to the head."""
        if any(name.startswith("item_embedding") for name in names):
            return None
        last = len(self.blocks) - 1
        depth: int | None = last + 1
        for name in names:
            if name.startswith("position_embedding"):
                depth = None
            elif name.startswith("blocks.") and depth is not None:
                block, part = int(name.split(".")[1]), name.split(".")[2]
                after_attention = block == last and part.startswith("feed")
                depth = min(depth, last + 1 if after_attention else block)
        return EncodedObjective(self, self.head, self.criterion, depth, limits or EncodedLimits())

    def _attend_last(self, states: Tensor, lengths: Tensor) -> Tensor:
        return cast(Block, self.blocks[-1]).attend_at(states, (lengths - 1).clamp(min=0))

    # Construction

    def _sampled_head(self, negatives: Tensor) -> SampledHead:
        probability = self.proposal[negatives - 1]
        log_expected = (len(negatives) * probability).log()
        if self.config.loss == "bce":
            log_expected = torch.zeros_like(log_expected)
        return SampledHead(negatives, log_expected.to(self.item_embedding.weight.dtype))

    def _initialise(self) -> None:
        """Initialise matrices as Normal(0, 0.02) from a generator of their own, not the global random state."""
        generator = torch.Generator().manual_seed(self.config.seed)
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, _INIT_STD, generator=generator)
                elif name.endswith("bias"):
                    parameter.zero_()
        with torch.no_grad():
            self.item_embedding.weight[0].zero_()
