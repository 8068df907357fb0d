"""Captioned drawings: products of all kinds in the generic words of a captioning data set, to pretrain a small base."""
