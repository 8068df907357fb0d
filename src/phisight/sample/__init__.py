"""Row 1: sample catalogues with pictures. Imports core only, no torch."""
