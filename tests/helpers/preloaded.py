"""Imported once by the server that forks the tests' children: what they need, and nothing for them to collect."""

import gc

import peft  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import phisight.model
import phisight.workflows.train  # noqa: F401

get_checkpoint_conversion_mapping("phi3_v")
gc.freeze()
