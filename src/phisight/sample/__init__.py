"""Sample catalogues with drawn images. Imports core only, no torch."""
