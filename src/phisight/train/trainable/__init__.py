"""Which parameters train (full, adapters, projector), quantization, and their optimizer groups."""
