"""Row 1: tables and images on disk, from a source to a data set folder. Nothing here imports torch."""
