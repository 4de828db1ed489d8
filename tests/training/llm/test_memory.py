from __future__ import annotations

from itertools import chain

import pytest
import torch

from cluster.errors import UserError
from training.llm.memory import out_of_memory, run_in_parts
from training.llm.prompts import EncodedPrompt
from training.llm.token_batches import collate

BATCH = collate([EncodedPrompt([3, 4, 5], 3)] * 13, 0)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 13])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), RuntimeError("not enough memory: 1 byte")])
def test_a_batch_is_halved_until_it_fits_and_stays_in_order(room, error):
    sizes = []

    def run(part):
        sizes.append(len(part))
        if len(part) > room:
            raise error
        return part.rows.tolist()

    assert list(chain.from_iterable(run_in_parts(run, BATCH))) == list(range(13))
    # The next batch is tried whole again.
    sizes.clear()
    run_in_parts(run, BATCH)
    assert sizes[0] == 13


def test_one_row_that_does_not_fit_is_the_users_fault():
    def run(part):
        raise torch.OutOfMemoryError("CUDA")

    with pytest.raises(UserError, match="does not fit in memory"):
        run_in_parts(run, BATCH)


def test_the_hosts_own_refusal_is_recognised():
    def run(part):
        # For more than two rows, this exceeds any address space.
        torch.empty(1 << 62 if len(part) > 2 else 1, dtype=torch.int8)
        return part.rows.tolist()

    assert list(chain.from_iterable(run_in_parts(run, BATCH))) == list(range(13))


def test_other_errors_pass():
    def run(part):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        run_in_parts(run, BATCH)
    assert not out_of_memory(ValueError("x"))
