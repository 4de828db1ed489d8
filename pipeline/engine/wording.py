"""Words for messages."""

from __future__ import annotations


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun, such as "1 item" or "2,000 items".

    Parameters
    ----------
    plural : for nouns that do not take a plain -s.
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"
