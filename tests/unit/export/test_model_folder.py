"""What stands beside the weights: the hub's own code on request, and questions to the hub that end in time."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from phisight.core.errors import CheckpointError
from phisight.export.model_folder import OFFICIAL_SIZE, write_config, write_processor
from phisight.model.checkpoint import within
from phisight.model.configuration import Phi3VConfig
from phisight.model.tiny import tiny_processor


def published(folder: Path, factor: float, **changes: Any) -> Path:
    """Configuration and processor of the published size, without weights."""
    sizes = {"intermediate_size": 8192, "num_key_value_heads": 32, "max_position_embeddings": 131072}
    factors = [factor + 0.01 * index for index in range(48)]
    rope = {"type": "su", "short_factor": factors, "long_factor": factors}
    config = Phi3VConfig(
        **{**OFFICIAL_SIZE, **sizes, "original_max_position_embeddings": 4096, "rope_scaling": rope, **changes}
    )
    config.save_pretrained(folder)
    tiny_processor(["one", "two"], num_crops=1).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("factor", "hub"),
    [(1.08, "microsoft/Phi-3.5-vision-instruct"), (1.05, "microsoft/Phi-3-vision-128k-instruct")],
)
def test_the_hub_s_own_code_is_named_on_request(factor: float, hub: str, tmp_path: Path) -> None:
    source = published(tmp_path / "source", factor)
    for remote in (False, True):
        out = tmp_path / str(remote)
        write_processor(source, out)
        write_config(source, out, None, remote_code=remote)
        written = [json.loads((out / name).read_text()) for name in ("config.json", "preprocessor_config.json")]
        named = [value for one in written for value in one.get("auto_map", {}).values()]
        assert len(named) == 4 * remote
        assert all(value.startswith(f"{hub}--") for value in named)
        assert type(AutoConfig.from_pretrained(out, trust_remote_code=False)) is Phi3VConfig


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 31}, {"vision_config": {"num_hidden_layers": 5}}])
def test_another_size_has_no_such_code(changes: dict[str, Any], tmp_path: Path) -> None:
    source = published(tmp_path / "source", 1.08, **changes)
    write_processor(source, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"for models of the published size, .* differs in .*num_hidden_layers"):
        write_config(source, tmp_path / "out", None, remote_code=True)


def test_a_question_that_nobody_answers_ends() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        within(0.05, never.wait)
    never.set()
    assert within(5, lambda: 3) == 3
    with pytest.raises(KeyError):
        within(5, lambda: dict[str, int]()["gone"])
