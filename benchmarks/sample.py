"""What the sample generator reaches: speed, memory, likeness, privacy, what can be learned from it.

    python benchmarks/sample.py [--json FILE] [--full] [--real TABLE]

There is no real price list here: ``price_table.py`` makes a stand-in by another process, and ``--real`` measures a
table of your own beside it. ``--full`` streams 100,000 rows for the memory figure (minutes).
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from price_table import price_table

from phisight.sample.catalogue.designs import design_sizes, listings
from phisight.sample.catalogue.presets import SampleSettings, preset
from phisight.sample.catalogue.pricing import prices
from phisight.sample.catalogue.products import KINDS
from phisight.sample.draw_catalogue import make
from phisight.sample.like.fidelity import compare, quality
from phisight.sample.like.real_table import RealTable, read_table
from phisight.sample.like.table_model import TableModel
from phisight.sample.render import draw_image

ROWS = 3040
SEEDS = (1, 2, 3)


def as_table(columns: dict[str, list[Any]]) -> RealTable:
    """Columns as a table in memory."""
    return RealTable(columns, len(next(iter(columns.values()))))


def likeness(folder: Path) -> dict[str, float]:
    """The stand-in price list, imitated: means over seeds (of the table and of the sample)."""
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for seed in SEEDS:
        whole = price_table(2 * ROWS, seed)
        for name, part in (("real", whole.slice(0, ROWS)), ("unseen", whole.slice(ROWS))):
            pq.write_table(part, folder / f"{name}.parquet")
        real, unseen = read_table(folder / "real.parquet"), read_table(folder / "unseen.parquet")
        started, busy = time.perf_counter(), time.process_time()
        drawn = TableModel(real).draw(ROWS, seed)
        note("table_seconds", time.perf_counter() - started)
        note("table_processor_seconds", time.process_time() - busy)
        report = compare(real, as_table(drawn), unseen)
        note("quality", report.quality)
        note("column_shapes", report.column_shapes)
        note("pair_trends", report.pair_trends)
        note("rules_kept", float(np.mean(list(report.rules.values()))))
        note("valid_category_paths", report.valid_paths or 0.0)
        note("verbatim", report.copied)
        note("nearer_to_training", report.nearer_to_training or 0.0)
        half = {name: values[: ROWS // 2] for name, values in real.columns.items()}
        rest = {name: values[ROWS // 2 :] for name, values in real.columns.items()}
        note("quality_of_two_halves", sum(quality(TableModel(as_table(half)).columns, as_table(rest))) / 2)
        shuffled = np.random.default_rng(seed)
        alone = {name: [values[i] for i in shuffled.permutation(ROWS)] for name, values in real.columns.items()}
        note("quality_of_shuffled_columns", sum(quality(TableModel(real).columns, as_table(alone))) / 2)
    return {name: float(np.mean(values)) for name, values in figures.items()}


def own_table(path: Path) -> dict[str, float]:
    """A real table: imitated from one half, measured against the other."""
    table = read_table(path)
    order = np.random.default_rng(0).permutation(table.rows)
    halves = [
        as_table({name: [values[row] for row in rows] for name, values in table.columns.items()})
        for rows in np.array_split(order, 2)
    ]
    drawn = as_table(TableModel(halves[0]).draw(halves[0].rows, 1))
    report = compare(halves[0], drawn, halves[1])
    return {
        "rows": table.rows,
        "quality": report.quality,
        "quality_of_two_halves": sum(quality(TableModel(halves[0]).columns, halves[1])) / 2,
        "valid_category_paths": report.valid_paths or 0.0,
        "verbatim": report.copied,
        "nearer_to_training": report.nearer_to_training or 0.0,
    }


def drawing(folder: Path) -> dict[str, float]:
    """3,040 rows with images of 512 pixels on two processes, beside the bare cost of their JPEG files."""
    settings = preset("fashion", smallest=512, largest=512, elongation=1.0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime + time.process_time()
    started = time.perf_counter()
    make(ROWS, folder / "large", seed=1, settings=settings, workers=2)
    spent = time.perf_counter() - started
    busy = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime + time.process_time() - before
    images = [
        draw_image(1, settings, listing.product, n) for n in range(12) for listing in listings(1, settings, n)[:1]
    ]
    started = time.process_time()
    for image in images:
        image.save(io.BytesIO(), "JPEG", quality=settings.quality)
    encoding = (time.process_time() - started) / len(images)
    return {
        "seconds_3040_rows_512_px_2_processes": spent,
        "processor_seconds_over_2": busy / 2,
        "cost_of_a_row_over_cost_of_its_jpeg": busy / ROWS / encoding,
    }


_PEAK = """
import sys
from pathlib import Path
from phisight.sample.draw_catalogue import make
from phisight.sample.catalogue.presets import preset
make(int(sys.argv[1]), Path(sys.argv[2]), seed=0, settings=preset("demo", smallest=32, largest=32, elongation=1.0))
print(int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024)
"""


def memory(folder: Path, many: int) -> dict[str, float]:
    """Peak memory of one process at 1,000 rows and at many."""
    peaks = [
        float(
            subprocess.run(
                [sys.executable, "-c", _PEAK, str(rows), str(folder / str(rows))],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for rows in (1000, many)
    ]
    return {"rows": many, "peak_mib_1000_rows": peaks[0], "peak_mib": peaks[1], "ratio": peaks[1] / peaks[0]}


def regressors(settings: SampleSettings, rows: int = 4000) -> dict[str, float]:
    """Held-out median price errors: the rule, least squares on the true attributes, the category alone."""
    facts: list[tuple[dict[str, str], float, float, int]] = []
    for design, count in design_sizes(5, settings, rows):
        for listing in listings(5, settings, design)[:count]:
            product, price = listing.product, prices(5, settings, design, len(facts), listing.product)
            kind = KINDS[product.kind]
            true = {
                "kind": product.kind,
                "pattern": product.pattern,
                "material": f"{kind.materials[0]}/{product.material}",
                "hardware": product.hardware if kind.hardware else "",
                "size": str(product.size) if kind.sizes else "1",
            }
            facts.append((true, price.full, price.rule, design))
    full, rule = (np.array([fact[place] for fact in facts]) for place in (1, 2))
    held = np.array([fact[3] % 5 == 0 for fact in facts])

    def error(guess: np.ndarray) -> float:
        return float(np.median(np.abs(guess[held] / full[held] - 1)))

    def fitted(names: tuple[str, ...]) -> np.ndarray:
        columns = [(name, value) for name in names for value in sorted({fact[0][name] for fact in facts})]
        features = np.array([[float(fact[0][name] == value) for name, value in columns] for fact in facts])
        weights = np.linalg.lstsq(features[~held], np.log(full[~held]), rcond=None)[0]
        answers: np.ndarray = np.exp(features @ weights)
        return answers

    floor = error(rule)
    every = error(fitted(("kind", "pattern", "material", "hardware", "size")))
    category = error(fitted(("kind",)))
    return {
        "noise_floor": floor,
        "true_attributes": every,
        "true_attributes_over_floor": every / floor,
        "category_alone": category,
        "category_alone_over_floor": category / floor,
    }


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--full", action="store_true", help="stream 100,000 rows for the memory figure")
    parser.add_argument("--real", type=Path, help="a table of your own to imitate")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = {
            "imitation of a stand-in price list (3,040 x 17)": lambda: likeness(folder),
            "price from the true attributes, fashion": lambda: regressors(preset("fashion")),
            "price from the true attributes, demo": lambda: regressors(preset("demo")),
            "drawing": lambda: drawing(folder),
            "memory": lambda: memory(folder, 100_000 if options.full else 8000),
        }
        if options.real:
            steps[f"imitation of {options.real.name}"] = lambda: own_table(options.real)
        for step, measure in steps.items():
            results[step] = measure()  # type: ignore[no-untyped-call]
            print(f"\n{step}")
            for figure, value in results[step].items():
                print(f"  {figure:38s} {value:12,.4f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
