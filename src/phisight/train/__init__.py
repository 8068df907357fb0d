"""Row 4: from rows to a trained model.

examples       row -> ids, labels on the answer only, pixels
feature_cache  a frozen tower's features, once per picture, on disk
batching       lengths -> the order of an epoch, with little padding
collate        examples -> one padded batch
methods        full | lora | projector -> which weights move, as a table that adds up
image_check    before the first step: can another picture change the loss?
plan           tokens, steps and memory before anything runs
trainer        the loop, on transformers' Trainer
"""
