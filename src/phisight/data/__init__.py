"""Tables and images on disk: sources, builds, data set folders. Imports core only, no torch."""
