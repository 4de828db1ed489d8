"""Training of the surrogate against the usual SASRec loop: users padded to 50 items, one negative per position.

    python -m benchmarks.surrogate_speed --interactions LOG --items CATALOGUE

Both run in this process with the same threads and the same train positions. The bars: 5 times the targets per second;
and a tenth of the time to reach a test Recall@10 (nothing masked) of 0.0139, which DEALRec's released code reached on
Games after 20 epochs. The loop is timed over some batches, and the time of its 20 epochs is extrapolated from it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.preparation import log_arguments, prepared
from cluster.storage import Storage
from scoring.ragged import Ragged
from scoring.surrogate import Surrogate, build_surrogate
from training.loops.array_columns import read_parts, to_ragged
from training.loops.surrogate_config import SurrogateConfig
from training.loops.surrogate_data import item_counts, train_sequences, train_windows
from training.loops.surrogate_spec import SurrogateSpec
from training.loops.surrogate_step import SurrogateStepper
from training.loops.surrogate_validation import padded_history
from training.ranking.ranking_metrics import rank_targets, user_metrics

_LENGTH = 50


class PaddedSASRec(nn.Module):
    """SASRec as it is commonly written: left-padded to a fixed length, with BCE and one sampled negative."""

    def __init__(self, items: int, hidden: int = 64, blocks: int = 2, heads: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, hidden, padding_idx=0)
        self.positions = nn.Embedding(_LENGTH, hidden)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(hidden, heads, hidden, dropout, batch_first=True, norm_first=True)
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(hidden)
        self.mask = torch.triu(torch.ones(_LENGTH, _LENGTH, dtype=torch.bool), 1)

    def forward(self, history: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        states = self.dropout(self.items(history) + self.positions.weight)
        for block in self.blocks:
            states = block(states, src_mask=self.mask)
        states = self.norm(states)
        above = (states * self.items(positive)).sum(-1)
        below = (states * self.items(negative)).sum(-1)
        losses = functional.softplus(-above) + functional.softplus(below)
        counted = (positive != 0).float()
        return (losses * counted).sum() / counted.sum()


def time_loop(sequences: Ragged, items: int, batch: int, batches: int) -> float:
    """Return the padded loop's train targets per second."""
    model = PaddedSASRec(items).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    users = np.flatnonzero(sequences.lengths >= 2)
    generator = np.random.default_rng(0)
    # Repeat epochs as needed, so that every batch is full even on a log with few users.
    order = np.resize(generator.permutation(users), batch * (batches + 2))
    targets, seconds = 0, 0.0
    for number in range(batches + 2):
        started = time.perf_counter()
        history, positive = np.zeros((2, batch, _LENGTH), dtype=np.int64)
        for index, user in enumerate(order[number * batch : (number + 1) * batch]):
            row = sequences.row(user)[-_LENGTH - 1 :]
            history[index, _LENGTH - len(row) + 1 :] = row[:-1]
            positive[index, _LENGTH - len(row) + 1 :] = row[1:]
        negative = generator.integers(1, items + 1, size=positive.shape)
        loss = model(*(torch.from_numpy(part) for part in (history, positive, negative)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number >= 2:
            seconds += time.perf_counter() - started
            targets += int((positive != 0).sum())
    return targets / seconds


def recall_at_10(model: Surrogate, data: Storage, max_history: int) -> float:
    """Return Recall@10 over all test users among all items, with nothing masked."""
    table = read_parts(data.child("samples", "test"), ["history", "targets"], "test samples")
    history, targets = to_ragged(table["history"]).tail(max_history), to_ragged(table["targets"])
    ranks: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(history), 512):
            rows = np.arange(start, min(start + 512, len(history)))
            items, lengths = padded_history(history.take(rows), torch.device("cpu"))
            scores = model.logits(model.encode(items, lengths)).numpy()
            found = rank_targets(scores, targets.take(rows))
            ranks += [found.row(row) for row in range(len(found))]
    return float(np.nanmean(user_metrics(Ragged.from_rows(ranks), (10,))["recall@10"]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    log_arguments(parser)
    parser.add_argument("--loss", default="sampled", choices=("softmax", "sampled", "bce"))
    parser.add_argument("--recall", type=float, default=0.0139, help="test Recall@10 to reach")
    parser.add_argument("--epochs", type=int, default=20, help="maximum epochs, and those that the loop needs")
    parser.add_argument("--loop-batch", type=int, default=256)
    parser.add_argument("--loop-batches", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = prepared(options).child("data")
    counts = item_counts(data)
    sequences = train_sequences(data)
    loop_rate = time_loop(sequences, len(counts), options.loop_batch, options.loop_batches)

    spec = SurrogateSpec(SurrogateConfig(loss=options.loss, epochs=20), sample_history=_LENGTH)
    model = build_surrogate("sasrec", len(counts), spec.network, torch.from_numpy(counts.copy()))
    windows = train_windows(data, _LENGTH)
    stepper = SurrogateStepper(spec, model, windows, torch.device("cpu"))
    targets = int(windows.targets.sum())
    loop_seconds = options.epochs * targets / loop_rate
    print(f"{targets:,} train targets, {len(counts):,} items, {options.threads} threads")
    print(f"padded BCE loop   {loop_rate:9,.0f} targets/s   {targets / loop_rate:6.1f} s per epoch")
    seconds = 0.0
    for epoch in range(options.epochs):
        model.train()
        started = time.perf_counter()
        for rows in stepper.batches(epoch):
            stepper.step(rows)
        seconds += time.perf_counter() - started
        recall = recall_at_10(model.eval(), data, _LENGTH)
        rate = targets * (epoch + 1) / seconds
        print(f"ours, epoch {epoch + 1:2d}    {rate:9,.0f} targets/s   {seconds:6.1f} s   Recall@10 {recall:.4f}")
        if recall >= options.recall:
            break
    print(f"targets per second: {rate / loop_rate:.1f} times the loop (bar 5)")
    reached = f"{loop_seconds / seconds:.1f} times less" if recall >= options.recall else "not reached"
    print(f"time to Recall@10 {options.recall}: {reached} than {options.epochs} epochs of the loop (bar 10)")


if __name__ == "__main__":
    main()
