"""Quiet loading; every test here needs the recorded results unless it says otherwise."""

from transformers.utils import logging

logging.disable_progress_bar()
