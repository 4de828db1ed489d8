"""Masking of credentials in texts that people and services see: messages, logs, reports, trackers' parameters."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

#: Schemes whose URIs name a container before the "@", and no credential.
_CONTAINER_SCHEMES = ("abfs", "abfss", "wasb", "wasbs")
#: Any URI with something before the "@". A password may hold an "@", a slash or a space that should have been encoded;
#: one with a space is told from a host by what follows the colon: not a port, and not the rest of a sentence.
_USER = re.compile(
    r"\b([a-z][a-z0-9+.-]*)://"
    r"([^/\s'\"]*|[^/\s@:'\"]*:[^\s@'\"]*|[^/\s@:'\"]*:(?!\s|/|\d+(?:\W|$))[^@'\"\n]*)@",
    re.IGNORECASE,
)
_WORDS = r"token|secret|passw(?:or)?d|api_?key|access_?key|credentials?|signature"
#: Parameters of a URI's query; `sig` is that of Azure's shared access signatures.
_QUERY = re.compile(rf"([?&](?:[\w.-]*(?:{_WORDS}|\bsig)[\w.-]*|(?:[\w.-]*[._-])?key)=)[^&\s'\"]+", re.IGNORECASE)
_KEY = re.compile(rf"(?:^|[._-])(?:{_WORDS}|key)$", re.IGNORECASE)


class MaskingFormatter(logging.Formatter):
    """Formats log records without the credentials that their URIs may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def masked(text: str) -> str:
    """Return the text with the user names, passwords, keys and signatures in its URIs replaced by `***`."""
    return _QUERY.sub(rf"\1{MASK}", _USER.sub(_without_user, text))


def masked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested values: hide those whose keys name a credential, and mask the texts of the others."""
    return {key: MASK if _hides(key, value) else _masked_value(value) for key, value in values.items()}


def _hides(key: str, value: Any) -> bool:
    return bool(value) and isinstance(value, str) and _KEY.search(key) is not None


def _masked_value(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return masked_values(value)
    if isinstance(value, list | tuple):
        return [_masked_value(entry) for entry in value]
    return value


def _without_user(found: re.Match[str]) -> str:
    scheme, user = found.groups()
    if ":" not in user and scheme.lower() in _CONTAINER_SCHEMES:
        return found.group(0)
    return f"{scheme}://{MASK}@"
