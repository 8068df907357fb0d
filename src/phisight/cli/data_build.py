"""``phisight data build``: its options, one type each, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phisight.cli.screen import command_line, console, progress_bar

if TYPE_CHECKING:
    from collections import Counter

    from rich.progress import Progress

    from phisight.data.build.build_dataset import Report
    from phisight.data.build.finish.finalize import BuildResult
    from phisight.data.fetch.limits import FetchLimits

_TASK, _LIMITS, _NETWORK = "Task", "Limits", "Network"
"""Panels of --help."""

Source = Annotated[str, typer.Argument(help="Folder, .csv/.tsv/.jsonl/.parquet/.json/.tar file, or hf:OWNER/NAME.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Image = Annotated[
    list[str] | None,
    typer.Option(help="Column with the image: URL, path, bytes, or a list of these. Repeat it for further images."),
]
ImagesPerKey = Annotated[int | None, typer.Option(min=1, help="Images of a product at most (default: all).")]
Key = Annotated[str | None, typer.Option(help="Column that names a product.")]
TaskOption = Annotated[
    Path | None, typer.Option(help="YAML file with prompt, answer and fields.", rich_help_panel=_TASK)
]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        help="A field of the answer, COLUMN:KIND: text, category, number (number:2 with decimals), integer, date, "
        "boolean, list or list:category; KIND? is optional. Repeatable.",
        rich_help_panel=_TASK,
    ),
]
Answer = Annotated[str | None, typer.Option(help="Answer template: 'Price: {price}'.", rich_help_panel=_TASK)]
Prompt = Annotated[str | None, typer.Option(help="Question put to every image.", rich_help_panel=_TASK)]
Group = Annotated[str | None, typer.Option(help="Column whose equal values stay in one split (default: the key).")]
GroupRegex = Annotated[
    list[str] | None,
    typer.Option(help="What the group value's brackets catch is the product: '^([A-Z]+[0-9]+)-'. Repeatable."),
]
NearDuplicates = Annotated[bool, typer.Option(help="Keep nearly equal images in one split.")]
Numbers = Annotated[
    list[str] | None,
    typer.Option(
        "--number",
        help="How a column writes numbers: price:decimal=comma,thousands=dot,unit=strip. Repeatable.",
        rich_help_panel=_TASK,
    ),
]
Dates = Annotated[
    list[str] | None,
    typer.Option(
        "--date",
        help="Which number of a column's dates is the day: day:dmy or day:mdy. Repeatable.",
        rich_help_panel=_TASK,
    ),
]
Lists = Annotated[
    list[str] | None,
    typer.Option("--list", help="The sign between a column's entries: tags:'|'. Repeatable.", rich_help_panel=_TASK),
]
SplitColumn = Annotated[str | None, typer.Option(help="Column that says train, validation or test.")]
OwnSplit = Annotated[
    bool, typer.Option("--own-split/--no-own-split", help="Honor the table's own split where it has one.")
]
Add = Annotated[
    bool, typer.Option("--add", help="Add SOURCE's rows to the data set in --out: a new version beside it.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a data set made from another source.")]
Shares = Annotated[str, typer.Option(help="Shares of train, validation, test.")]
Seed = Annotated[int, typer.Option(help="Seed of the splits.")]
Engine = Annotated[str, typer.Option(help="local, or ray for a cluster (pip install 'phisight\\[ray]').")]
Processes = Annotated[int | None, typer.Option(help="Worker processes (default: by the number of rows).")]
ImageRoot = Annotated[Path | None, typer.Option(help="Folder that local paths begin in (default: the source's).")]
ImageFence = Annotated[
    Path | None, typer.Option(help="Folder that local images must lie in (default: the image root).")
]
Layout = Annotated[
    str, typer.Option("--format", help="imagefolder; parquet or webdataset write shards beside it as well.")
]
Encoding = Annotated[str, typer.Option(help="Text encoding of CSV and TSV.")]
Sheet = Annotated[str | None, typer.Option(help="Sheet of a workbook, by name or number (default: the first).")]
MaxBytes = Annotated[int, typer.Option(help="Bytes of one image.", rich_help_panel=_LIMITS)]
MaxPixels = Annotated[int, typer.Option(help="Pixels of one image.", rich_help_panel=_LIMITS)]
TimeLimit = Annotated[float, typer.Option(help="Seconds for one image.", rich_help_panel=_NETWORK)]
Attempts = Annotated[int, typer.Option(help="Attempts for one image.", rich_help_panel=_NETWORK)]
Connections = Annotated[int, typer.Option(help="Connections at once.", rich_help_panel=_NETWORK)]
PerHost = Annotated[int, typer.Option(help="Connections to one host.", rich_help_panel=_NETWORK)]
Proxy = Annotated[
    str, typer.Option(help="env: through HTTPS_PROXY and HTTP_PROXY, not for NO_PROXY.", rich_help_panel=_NETWORK)
]
CaBundle = Annotated[
    Path | None, typer.Option(help="PEM file of further certificate authorities.", rich_help_panel=_NETWORK)
]
Header = Annotated[
    list[str] | None,
    typer.Option(help="NAME: VALUE, sent to the table's hosts; never logged. Repeatable.", rich_help_panel=_NETWORK),
]


def _without_http2(asked: bool) -> None:
    from phisight.core.errors import SettingsError

    if asked:
        raise SettingsError("--http2 is gone: images are fetched over HTTP/1.1; leave the option out")


Http2 = Annotated[bool, typer.Option("--http2", hidden=True, callback=_without_http2)]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Fetch from private addresses too.", rich_help_panel=_NETWORK)
]
MinSide = Annotated[int, typer.Option(help="Shortest side of an image.", rich_help_panel=_LIMITS)]


BUILD_HELP = """Build a data set folder from SOURCE; the same command continues.
Each row ends in the table or the rejects.

Examples:
    phisight data build shop.csv --out data/shop
    phisight data build photos/ --out data/photos
    phisight data build shop.csv --out data/shop --image photo --field title:text --field price:number:2

--field COLUMN:KIND[:DECIMALS], once for each field of the answer: COLUMN is a column of SOURCE, KIND is text
(free), category (one of the values of the column) or number; DECIMALS are the digits after a number's point.
What is not named is guessed, and the guess is printed.
"""


def build_command(
    context: typer.Context,
    source: Source,
    out: Out,
    image: Image = None,
    images_per_key: ImagesPerKey = None,
    key: Key = None,
    task: TaskOption = None,
    fields: Fields = None,
    answer: Answer = None,
    prompt: Prompt = None,
    group: Group = None,
    group_regex: GroupRegex = None,
    near_duplicates: NearDuplicates = True,
    overwrite: Overwrite = False,
    add: Add = False,
    numbers: Numbers = None,
    dates: Dates = None,
    lists: Lists = None,
    split_column: SplitColumn = None,
    own_split: OwnSplit = True,
    shares: Shares = "0.8,0.1,0.1",
    seed: Seed = 0,
    engine: Engine = "local",
    processes: Processes = None,
    image_root: ImageRoot = None,
    image_fence: ImageFence = None,
    layout: Layout = "imagefolder",
    encoding: Encoding = "utf-8-sig",
    sheet: Sheet = None,
    max_bytes: MaxBytes = 50000000,
    max_pixels: MaxPixels = 50000000,
    time_limit: TimeLimit = 30.0,
    attempts: Attempts = 4,
    connections: Connections = 128,
    per_host: PerHost = 32,
    proxy: Proxy = "none",
    ca_bundle: CaBundle = None,
    header: Header = None,
    _http2: Http2 = False,
    allow_private: AllowPrivate = False,
    min_side: MinSide = 8,
) -> None:
    """Build a data set folder: see ``BUILD_HELP``."""
    from phisight.data.build.build_dataset import build
    from phisight.data.build.plan.config import BuildOptions
    from phisight.data.build.plan.groups import GroupRule
    from phisight.data.build.plan.splits import parse_shares
    from phisight.data.build.plan.task_files import task_of_options
    from phisight.data.dataset.add_rows import add_rows
    from phisight.data.images.decode import ImageLimits

    chosen = BuildOptions(
        image=image[0] if image else None,
        further_images=tuple(image[1:]) if image else (),
        images_per_key=images_per_key,
        key=key,
        task=task_of_options(task, fields or [], answer, prompt),
        prompt=prompt,
        group=GroupRule(group, tuple(group_regex or ())),
        near_duplicates=near_duplicates,
        overwrite=overwrite,
        **_written(numbers or [], dates or [], lists or []),
        split_column=split_column,
        own_split=own_split,
        shares=parse_shares(shares),
        seed=seed,
        limits=ImageLimits(max_bytes=max_bytes, max_pixels=max_pixels, min_side=min_side),
        fetch=_fetch_limits(time_limit, attempts, connections, per_host, proxy, ca_bundle, header, allow_private),
        engine=engine,
        processes=processes,
        image_root=image_root,
        image_fence=image_fence,
        encoding=encoding,
        sheet=sheet,
    )
    with progress_bar() as progress:
        result = (add_rows if add else build)(source, out, chosen, reporter(progress))
    print_result(result, command_line(context, result.options) if result.options else None)
    _export_beside(result.folder, layout)


def _fetch_limits(
    total_s: float,
    attempts: int,
    connections: int,
    per_host: int,
    proxy: str,
    ca_bundle: Path | None,
    header: list[str] | None,
    allow_private: bool,
) -> FetchLimits:
    from phisight.data.fetch.limits import FetchLimits, parse_header

    return FetchLimits(
        total_s=total_s,
        attempts=attempts,
        connections=connections,
        per_host=per_host,
        proxy=proxy,
        ca_bundle=ca_bundle,
        headers=tuple(map(parse_header, header or [])),
        allow_private=allow_private,
    )


def reporter(progress: Progress) -> Report:
    """Shows images done and the commonest rejections."""
    row = progress.add_task("images", total=None, note="")

    def report(done: int, total: int | None, rejected: Counter[str]) -> None:
        note = "  ".join(f"{kind} {count}" for kind, count in rejected.most_common(3))
        progress.update(row, completed=done, total=total, note=note)

    return report


def _export_beside(out: Path, layout: str) -> None:
    if layout == "imagefolder":
        return
    from phisight.data.dataset.export_formats import export
    from phisight.data.dataset.folder import DatasetFolder

    target = out.with_name(f"{out.resolve().name}-{layout}")
    files = export(DatasetFolder.open(out), target, layout)
    console.print(f"{len(files)} files in {target}", markup=False, soft_wrap=True)


def _written(numbers: list[str], dates: list[str], lists: list[str]) -> dict[str, Any]:
    """How columns write their values, as options of a build."""
    from phisight.data.values.column_readers import orders_by_column, separators_by_column
    from phisight.data.values.number_style import styles_by_column

    return {
        "numbers": styles_by_column(numbers),
        "dates": orders_by_column(dates),
        "lists": separators_by_column(lists),
    }


def print_result(result: BuildResult, by_hand: str | None = None) -> None:
    """Guesses, remarks, counts and findings of a build, and the command line that says what was guessed."""
    from rich.table import Table

    for guess in result.guesses:
        console.print(f"guessed: {guess}", markup=False, highlight=False)
    for remark in result.remarks:
        console.print(f"remark: {remark}", markup=False, highlight=False)
    table = Table("rows", "count", title=str(result.folder), title_justify="left")
    table.add_row("read", str(result.read))
    table.add_row("kept", str(result.kept))
    for kind, count in sorted(result.rejected.items()):
        table.add_row(f"rejected: {kind}", str(count))
    for name, count in result.splits.items():
        table.add_row(f"split {name}", str(count))
    console.print(table)
    for finding in result.findings:
        console.print(f"finding: {finding.count} x {finding.meaning} ({', '.join(finding.keys)})", markup=False)
    if by_hand is not None:
        console.print(f"the same by hand: {by_hand}", markup=False, highlight=False, soft_wrap=True)
