"""Where rows come from: one small class a kind of source, all with the shape of ``base.Source``."""

from phisight.data.sources.base import Source, SourceBatch
from phisight.data.sources.open import open_source

__all__ = ["Source", "SourceBatch", "open_source"]
