"""``phisight plan``: what a run will take in tokens, memory, hours and money, before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from phisight.cli.screen import Overrides, console, quiet_libraries
from phisight.core.errors import SettingsError

if TYPE_CHECKING:
    from phisight.train.estimate.planned_run import Setting
    from phisight.workflows.plan import Plan

DEFAULT_CARD = "A100 80GB"
"""What a sweep reckons with unless a card is named."""
LEAST = 0.01
"""Seconds of a step, and hours, below which no figure is told."""


def plan_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="Settings of the run; see recipes/.")],
    overrides: Overrides = None,
    price: Annotated[float | None, typer.Option(min=0, help="Price of an hour; the run's cost is told.")] = None,
    card: Annotated[
        str | None, typer.Option(help="Card to recommend settings for: A10G, L4, RTX 4090, A100 80GB, H100, H200 ...")
    ] = None,
    sweep: Annotated[str | None, typer.Option(metavar="num_crops", help="Compare values of num_crops.")] = None,
) -> None:
    """Plan a run without running it: tokens of an image, steps, memory of each method, hours and cost by card.

    Example: phisight plan recipes/phi35-vision-lora.yaml --set data.path=data/products --card H100 --price 2.5
    """
    from phisight.core.recipe import load_recipe
    from phisight.train.estimate.cards import card as named
    from phisight.workflows.plan import plan

    if sweep not in (None, "num_crops"):
        raise SettingsError(f"--sweep {sweep!r}: only num_crops is swept; write --sweep num_crops")
    quiet_libraries()
    chosen = named(card or DEFAULT_CARD) if card or sweep else None
    made = plan(load_recipe(recipe, overrides or []), price=price, card=chosen, sweep=sweep is not None)
    show_tokens(made)
    show_memory(made)
    show_devices(made)
    if chosen:
        show_settings(f"Recommended for {chosen.name}", [made.recommended] if made.recommended else [])
    else:
        fitting = [(one.name, setting) for one, setting in made.by_card if setting]
        show_settings("Recommended for each card that fits", [one for _, one in fitting], [name for name, _ in fitting])
    if sweep:
        assert chosen is not None
        show_settings(f"num_crops on {chosen.name}, each at its fastest setting", made.sweep)
        console.print(choice(made, chosen.name), highlight=False)


def choice(made: Plan, card: str) -> str:
    """One line: which setting of a sweep is recommended, and why."""
    one = made.recommended
    if one is None:
        return f"Chosen: none, nothing fits {card}."
    why = f"the recipe's, fastest so on {card}"
    if one.num_crops != made.num_crops:
        why = f"the recipe's {made.num_crops} fits {card} in no setting; this is the next smaller"
    again = "true" if one.checkpointing else "false"
    return (
        f"Chosen: num_crops {one.num_crops}, batch_size {one.batch_size}, accumulate {one.accumulate}, "
        f"gradient_checkpointing {again}, {one.cached} cached ({why}). What crops bring to accuracy is not known."
    )


def show_tokens(made: Plan) -> None:
    """Image tokens and steps."""
    images = Table("most crops", "tokens, median", "largest", title="Tokens of an image")
    for one in made.images:
        mark = " (this recipe)" if one.num_crops == made.num_crops else ""
        images.add_row(f"{one.num_crops}{mark}", f"{one.median:,}", f"{one.largest:,}")
    console.print(images)
    examples = "samples" if made.sides == 1 else f"pairs of {made.sides} sequences"
    console.print(
        f"{made.rows} {examples} and {made.steps_per_epoch} steps an epoch, {made.steps} steps in all; longest sample "
        f"{made.batch.tokens:,} tokens; {made.padding:.1%} of tokens are padding.",
        highlight=False,
    )
    if made.reference_bytes:
        console.print(
            "Before the first step every pair goes forward once for its reference scores, "
            f"{made.reference_bytes / 1e6:.1f} MB on disk; a second run on the same pairs reads them.",
            highlight=False,
        )


def show_memory(made: Plan) -> None:
    """Memory by method."""
    names = ("weights", "gradients", "optimizer", "activations", "head", "peak")
    memory = Table(
        Column("method", no_wrap=True), *names, title=f"GB on one device, {made.batch.examples} sequences a micro-batch"
    )
    for method, needs in made.memory.items():
        mark = " (this recipe)" if method == made.chosen else ""
        memory.add_row(method + mark, *(f"{getattr(needs, name) / 1e9:.2f}" for name in names))
    console.print(memory)


def show_devices(made: Plan) -> None:
    """The formula, then hours and cost by device."""
    parts = ", ".join(f"{name} {flops / made.work.flops:.0%}" for name, flops in made.work.parts.items() if flops)
    cached = "nothing is cached" if made.cached == "nothing" else f"{made.cached} cached"
    console.print(
        f"{made.work.flops / made.work.examples / 1e12:.3g} TFLOP a sample ({parts}; {cached}), recomputation and the "
        f"gradients of frozen weights excluded; {made.work.executed / made.work.examples / 1e12:.3g} with "
        "it.\nseconds of a step = FLOPs with recomputation / (matrix rate x efficiency) + bytes / bandwidth. "
        "Evaluation, checkpoints and waiting for data come on top; so do a GPU's launches, most of a step under "
        f"{LEAST:g} s.",
        highlight=False,
    )
    table = Table(
        "device", "fits", "largest batch", "s a step", "tokens/s", "hours", "cost", "matrix rate x efficiency"
    )
    for one in made.devices:
        largest = "" if one.largest_batch is None else str(one.largest_batch)
        cost = "" if one.cost is None else f"{one.cost:,.2f}"
        duration = one.duration
        table.add_row(
            one.speed.name,
            "yes" if one.fits else "no",
            largest,
            _least(duration.seconds_per_step),
            f"{duration.tokens_per_s:,.0f}" if duration.seconds_per_step >= LEAST else "",
            _least(duration.hours),
            cost,
            one.speed.source,
        )
    console.print(table)


def _least(value: float) -> str:
    """Seconds or hours, or that they are fewer than can be told from sums of operations."""
    return f"{value:.3g}" if value >= LEAST else f"< {LEAST:g}"


def show_settings(title: str, settings: list[Setting], cards: Sequence[str] = ()) -> None:
    """Settings that fit, with hours and cost; ``cards`` are the names of those that each is for."""
    if not settings:
        console.print(f"{title}: none fits; take qlora, a smaller num_crops, or a larger card.", highlight=False)
        return
    columns = ("num_crops", "tokens", "batch x accumulate", "checkpointing", "cache", "GB", "hours", "cost")
    table = Table(*(["card"] if cards else []), *columns, title=title)
    for at, one in enumerate(settings):
        table.add_row(
            *cards[at : at + 1],
            str(one.num_crops),
            f"{one.image_tokens:,}",
            f"{one.batch_size} x {one.accumulate}",
            "yes" if one.checkpointing else "no",
            one.cached,
            f"{one.peak / 1e9:.1f}",
            _least(one.hours),
            "" if one.cost is None else f"{one.cost:,.2f}",
        )
    console.print(table)
