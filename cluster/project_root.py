"""Where the project itself lies."""

from __future__ import annotations

from pathlib import Path

#: The checkout: what a job ships, and what workers of an embedded Ray import.
PROJECT_ROOT = Path(__file__).resolve().parent.parent
