"""Safetensors files written tensor by tensor: no more than one tensor is in memory at a time.

    8 bytes: length of the header | header: JSON, name -> dtype, shape, offsets | values in the order of the header

Source: the safetensors format, https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from phisight.core.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a file: its name, shape and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Bytes of its values."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


def specs_of(path: Path) -> list[TensorSpec]:
    """Names, shapes and dtypes of a file, without reading values; CheckpointError for a type of quantized weights."""
    with safe_open(path, framework="pt") as file:
        found = []
        for name in file.keys():  # noqa: SIM118 - no mapping
            part = file.get_slice(name)
            if part.get_dtype() not in DTYPES:
                raise CheckpointError(
                    f"{path}: {name} is stored as {part.get_dtype()}, which is quantized; name the model in full "
                    "precision"
                )
            found.append(TensorSpec(name, tuple(part.get_shape()), DTYPES[part.get_dtype()]))
        return found


def values_of(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every tensor of a file; the file is mapped anew for each, so that no more of it stays."""
    for spec in specs_of(path):
        with safe_open(path, framework="pt") as file:
            yield spec.name, file.get_tensor(spec.name)


def write_shard(path: Path, specs: Iterable[TensorSpec], values: Iterable[tuple[str, Tensor]]) -> None:
    """Write a file; ``values`` come in the order of ``specs`` and are cast to the dtype that these say."""
    specs = list(specs)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for spec in specs:
        offsets = [end, end + spec.bytes]
        header[spec.name] = {"dtype": _NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": offsets}
        end += spec.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for spec, (name, value) in zip(specs, values, strict=True):
            assert name == spec.name, f"{name} comes where {spec.name} was announced"
            assert tuple(value.shape) == spec.shape, f"{name} has another shape than was announced"
            plain = value.to(spec.dtype).contiguous().flatten()
            file.write(plain.view(torch.uint8).numpy().data)
