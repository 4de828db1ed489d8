"""Describe the configuration for programs."""

from __future__ import annotations

from typing import Any

from pipeline.engine.config_file import json_schema


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration: every key, its type and its default. Editors complete keys with it.

    Examples
    --------
    >>> sorted(dealrec.schema()["properties"])[:3]
    ['audit', 'cluster', 'data']
    """
    return json_schema()
