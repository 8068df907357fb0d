"""What vLLM finds in the package: an entry point that imports none of it, and a processor with what it asks for."""

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

import phisight  # noqa: F401 - registers phi3_v with the Auto classes
from phisight.export.vllm_plugin import register
from phisight.model.tiny import tiny_processor

PROMPT = "<|user|>\n<|image_1|>\nWhat is it?<|end|>\n<|assistant|>\n"
SIZES = [
    (1, 1),
    (40, 30),
    (30, 40),
    (336, 336),
    (337, 336),
    (640, 480),
    (480, 640),
    (1344, 336),
    (50, 900),
    (2000, 1500),
]

START = """
import sys
from importlib import metadata
tried = []
class Watch:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "vllm":
            tried.append(name)
sys.meta_path.insert(0, Watch())
(entry,) = (one for one in metadata.entry_points(group="vllm.general_plugins") if one.name == "phisight")
entry.load()()
assert not tried and "vllm" not in sys.modules, tried
from transformers import AutoConfig, AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1])
print(type(processor).__name__, AutoConfig.for_model("phi3_v").architectures, len(processor.img_tokens))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("processor") / "model"
    tiny_processor(["What is it?", "A check scarf"], num_crops=1).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def address(photo: Path) -> Iterator[str]:
    """The photo behind an address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=photo.parent))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{photo.name}"
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_the_entry_point_is_in_the_metadata() -> None:
    (entry,) = (one for one in metadata.entry_points(group="vllm.general_plugins") if one.name == "phisight")
    assert entry.load() is register


@pytest.mark.process
@pytest.mark.slow
def test_a_fresh_process_registers_without_vllm(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, str(folder)], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "Phi3VProcessor"
    assert "Phi3VForCausalLM" in done.stdout
    register()  # a process may be told twice


def test_tags_are_those_of_prompts(processor: Any) -> None:
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "?"}]}]
    )
    assert (
        [tag for tag in processor.img_tokens if tag in text]
        == processor.img_tokens[:2]
        == ["<|image_1|>", "<|image_2|>"]
    )


@pytest.mark.parametrize("num_crops", [1, 2, 4, 9, 16])
def test_counted_image_tokens_are_those_that_a_call_makes(num_crops: int, folder: Path) -> None:
    """``num_crops`` as vLLM sets it: where the processor is loaded."""
    processor = AutoProcessor.from_pretrained(folder, num_crops=num_crops)
    rng = np.random.default_rng(num_crops)
    drawn = [(int(width), int(height)) for width, height in rng.integers(2, 700, (6, 2))]
    counts = set()
    for width, height in SIZES + drawn:
        made = processor(text=PROMPT, images=Image.new("RGB", (width, height)), return_tensors="pt")
        placeholders = int((made.input_ids == processor.image_token_id).sum())
        assert processor.calc_num_image_tokens_from_image_size(width=width, height=height) == placeholders
        counts.add(placeholders)
    assert len(counts) > (num_crops > 1), "sizes of one count would prove nothing"


def test_special_tokens_are_left_out_on_request(processor: Any, photo: Path) -> None:
    begin = processor.tokenizer.bos_token_id
    image = Image.open(photo)
    with_them = processor(text=PROMPT, images=image).input_ids[0]
    without = processor(text=PROMPT, images=image, add_special_tokens=False).input_ids[0]
    assert with_them.count(begin) == 2, "each piece of text between images has its own, as in the published format"
    assert without == [token for token in with_them if token != begin]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_goes_to_the_side_that_is_asked_for(side: str, processor: Any) -> None:
    before = processor.tokenizer.padding_side
    made = processor(text=["What?", "What is it? A check scarf"], padding=True, padding_side=side, return_tensors="pt")
    short = made.attention_mask[0].tolist()
    assert sorted(short) != [1] * len(short)
    assert short == sorted(short, reverse=side == "right")
    padded = made.input_ids[0][made.attention_mask[0] == 0]
    assert set(padded.tolist()) == {processor.tokenizer.pad_token_id}
    alone = processor(text="What?").input_ids[0]
    assert made.input_ids[0][made.attention_mask[0] == 1].tolist() == alone
    assert processor.tokenizer.padding_side == before


def test_paths_and_addresses_are_images(processor: Any, photo: Path, address: str) -> None:
    opened = processor(text=PROMPT, images=Image.open(photo), return_tensors="pt")
    for image in (str(photo), address, [address], [[str(photo)]]):
        made = processor(text=PROMPT, images=image, return_tensors="pt")
        assert torch.equal(made.pixel_values, opened.pixel_values)
        assert torch.equal(made.input_ids, opened.input_ids)
