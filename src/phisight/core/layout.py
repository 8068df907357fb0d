"""Names that worker processes need without what ``datadir`` imports (pydantic: a tenth of a second each)."""

from __future__ import annotations

IMAGES = "images"
"""Folder of the images inside a data set folder."""
