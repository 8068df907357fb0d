"""From rows of the data set to batches: tokens and labels, images or cached tensors, collation, order of an epoch."""
