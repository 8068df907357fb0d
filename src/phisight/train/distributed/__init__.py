"""Several ranks: the process group and FSDP2."""
