"""Where rows come from: one small class a kind of source, all with the shape of ``base.Source``."""

from phisight.data.sources.base import Source, SourceBatch

__all__ = ["Source", "SourceBatch"]
