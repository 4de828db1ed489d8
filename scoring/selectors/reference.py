"""Samples of the reference period itself: the control that any aimed selector must face.

Not a coreset of the train samples: it shows what as many of the very samples that the others aim at would teach.
"""

from __future__ import annotations

import numpy as np

from scoring.draw import Rows
from scoring.ids import draw_order
from scoring.selectors.base import (
    Reference,
    Selection,
    SelectionParams,
    Shards,
    asked_size,
    required_reference,
    survey,
)
from scoring.selectors.plain import no_score, plain_report


class ReferenceSelector:
    """Draws uniformly from the reference as many samples as the others take from train."""

    scores: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    sees_validation = True

    def select(self, shards: Shards, params: SelectionParams, reference: Reference | None = None) -> Selection:
        """One pass, for the size. Raises TooFewSamplesError, and SettingError without a reference."""
        reference = required_reference(reference, params.method)
        counts = survey(shards, self.scores)
        asked = asked_size(params.size, counts.samples)
        key = draw_order(reference.sample_id, params.seed)
        place = np.lexsort((reference.sample_id, key))[:asked]
        none, stratum = no_score(len(place)), np.zeros(len(place), dtype=np.int32)
        rows = Rows(key[place], stratum, reference.sample_id[place], none, none, none)
        warnings = []
        if asked > len(reference):
            warnings.append(f"{asked:,} samples were asked for; the reference period has {len(reference):,}")
        report = plain_report(params, counts, asked, len(rows), reference_samples=len(reference), warnings=warnings)
        return Selection.of(rows, report)
