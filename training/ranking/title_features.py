"""Features of titles that need no learning: unit vectors whose inner products are cosine similarities."""

from __future__ import annotations

import math
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.llm.prompts import clean_title

Directions = npt.NDArray[np.float32]
_GRAMS = (3, 4, 5)
_BUCKETS = 1 << 15
_PROJECTION_SEED = 0x7175


def lexical_directions(titles: Sequence[str], width: int = 256) -> Directions:
    """Return unit rows, float32 [n, width]: hashed character n-gram TF-IDF, reduced by a random projection.

    The projection is Gaussian and fixed, so inner products match those of the TF-IDF vectors within about 1/√width
    (Johnson and Lindenstrauss). The features capture spelling only; no language model is involved.
    """
    weights = _tf_idf(titles)
    projection = np.random.default_rng(_PROJECTION_SEED).standard_normal((_BUCKETS, width), dtype=np.float32)
    reduced: Directions = np.asarray(weights @ projection, dtype=np.float32)
    return unit_rows(reduced)


def unit_rows(vectors: Directions) -> Directions:
    """Scale rows to length 1; rows of zeros stay zero."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return vectors / np.maximum(lengths, np.float32(1e-12))[:, None]


def character_grams(title: str) -> Counter[str]:
    """Count the n-grams of 3 to 5 characters in a title in lower case, with a space at both ends."""
    text = f" {clean_title(title).lower()} "
    return Counter(text[start : start + n] for n in _GRAMS for start in range(max(1, len(text) - n + 1)))


def _tf_idf(titles: Sequence[str]) -> sparse.csr_matrix:
    """Return [n, buckets]: (1 + ln count) · (1 + ln((1 + n) / (1 + titles with it))), n-grams hashed by CRC-32."""
    # Machine-number arrays save memory: a catalogue has about a hundred n-grams per title.
    rows, columns, values = array("q", [0]), array("i"), array("f")
    for title in titles:
        for gram, count in character_grams(title).items():
            columns.append(zlib.crc32(gram.encode("utf-8", "replace")) % _BUCKETS)
            values.append(1.0 + math.log(count))
        rows.append(len(columns))
    parts = (np.frombuffer(values, np.float32), np.frombuffer(columns, np.int32), np.frombuffer(rows, np.int64))
    counts = sparse.csr_matrix(parts, shape=(len(titles), _BUCKETS))
    counts.sum_duplicates()
    found = np.bincount(counts.indices, minlength=_BUCKETS)
    rarity = 1.0 + np.log((1 + len(titles)) / (1 + found))
    return counts @ sparse.diags_array(rarity.astype(np.float32))
