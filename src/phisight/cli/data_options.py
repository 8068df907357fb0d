"""The options of ``phisight data build``, one type each: what it is called on the command line and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TASK = "Task"
_LIMITS = "Limits"
_NETWORK = "Network"

Source = Annotated[str, typer.Argument(help="Folder, .csv/.tsv/.jsonl/.parquet/.json/.tar file, or hf:OWNER/NAME.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Image = Annotated[str | None, typer.Option(help="Column with the picture: URL, path or bytes.")]
Key = Annotated[str | None, typer.Option(help="Column that names a product.")]
Task = Annotated[Path | None, typer.Option(help="YAML file with prompt, answer and fields.", rich_help_panel=_TASK)]
Fields = Annotated[
    list[str] | None,
    typer.Option("--field", help="A field of the answer: COLUMN:text, :category or :number.", rich_help_panel=_TASK),
]
Answer = Annotated[str | None, typer.Option(help="Answer template: 'Price: {price}'.", rich_help_panel=_TASK)]
Prompt = Annotated[str | None, typer.Option(help="Question put to every picture.", rich_help_panel=_TASK)]
Group = Annotated[str | None, typer.Option(help="Column whose equal values stay in one split (default: the key).")]
GroupRegex = Annotated[
    list[str] | None,
    typer.Option(help="What the group value's brackets catch is the product: '^([A-Z]+[0-9]+)-'. Repeatable."),
]
NearDuplicates = Annotated[bool, typer.Option(help="Keep nearly equal pictures in one split.")]
Shares = Annotated[str, typer.Option(help="Shares of train, validation, test.")]
Seed = Annotated[int, typer.Option(help="Seed of the splits.")]
Engine = Annotated[str, typer.Option(help="local, or ray for a cluster (pip install 'phisight\\[ray]').")]
Processes = Annotated[int | None, typer.Option(help="Worker processes (default: by the number of rows).")]
ImageRoot = Annotated[Path | None, typer.Option(help="Folder that local pictures must lie in (default: the source's).")]
Layout = Annotated[
    str, typer.Option("--format", help="imagefolder; parquet or webdataset write shards beside it as well.")
]
Encoding = Annotated[str, typer.Option(help="Text encoding of CSV and TSV.")]
MaxBytes = Annotated[int, typer.Option(help="Bytes of one picture.", rich_help_panel=_LIMITS)]
MaxPixels = Annotated[int, typer.Option(help="Pixels of one picture.", rich_help_panel=_LIMITS)]
TimeLimit = Annotated[float, typer.Option(help="Seconds for one picture.", rich_help_panel=_NETWORK)]
Attempts = Annotated[int, typer.Option(help="Attempts for one picture.", rich_help_panel=_NETWORK)]
Connections = Annotated[int, typer.Option(help="Connections at once.", rich_help_panel=_NETWORK)]
PerHost = Annotated[int, typer.Option(help="Connections to one host.", rich_help_panel=_NETWORK)]
Http2 = Annotated[bool, typer.Option("--http2", help="Use HTTP/2 where offered.", rich_help_panel=_NETWORK)]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Fetch from private addresses too.", rich_help_panel=_NETWORK)
]
MinSide = Annotated[int, typer.Option(help="Shortest side of a picture.", rich_help_panel=_LIMITS)]
