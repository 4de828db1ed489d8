"""Results that are shown without credentials."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from cluster.masking import masked

if TYPE_CHECKING:
    from _typeshed import DataclassInstance as _Base
else:
    _Base = object


class MaskedRepr(_Base):
    """Base of the dataclasses whose URIs may hold credentials: a notebook shows them masked, and the fields keep them.

    Declare such a class by `@dataclass(repr=False)`.
    """

    def __repr__(self) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
        return masked(f"{type(self).__name__}({', '.join(shown)})")
