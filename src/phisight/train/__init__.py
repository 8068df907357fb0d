"""Row 4: from rows to a trained model.

examples       row -> ids, labels on the answer only, pixels
tensor_store   tensors on disk under a key, within a bound
feature_cache  a frozen tower's features, once per picture, on disk
trunk_cache    hidden states below the trained layers, once per example, on disk
resting        the weights below them leave the memory
batching       lengths -> the order of an epoch, with little padding
collate        examples -> one padded batch
packing        examples -> one row without padding
compiling, liger, waiting   faster layers; how long steps wait for data
methods        full | lora | projector -> which weights move, as a table that adds up
image_check    before the first step: can another picture change the loss?
plan           tokens, steps and memory before anything runs
trainer        the loop, on transformers' Trainer
durable        what makes it go on after a stop as if there had been none: order, checkpoints, figures
  step_batches   a step's examples, cut into the micro-batches of each process
  checkpoints    whole or not there, with hashes; the broken one is passed over
  progress       what a run knows besides weights and optimiser
  stopping       a signal: finish the step, save, end
faults         what goes wrong outside, as named errors
processes      several processes: one acts for all, none waits for ever
sharding       FSDP2
"""
