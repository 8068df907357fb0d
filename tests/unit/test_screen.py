"""Nothing from data moves the cursor, changes the title or the clipboard of a terminal."""

import io
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from phisight.cli.screen import Bar, SafeConsole, progress_bar

HOSTILE = "a\x1b]0;owned\x07b\x1b[2J\x9b31m\x08\x7f\rc\x1bP+q\x1b\\"


def shown(*renderables: object, color: bool = False) -> str:
    file = io.StringIO()
    console = SafeConsole(file=file, width=200, force_terminal=color, color_system="standard" if color else None)
    for renderable in renderables:
        console.print(renderable, markup=False, highlight=False)
    return file.getvalue()


def test_no_control_character_reaches_the_terminal() -> None:
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE))
    text = shown(HOSTILE, table, Text(HOSTILE))
    assert not [char for char in text if (ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160]
    assert "owned" in text


def test_colors_of_the_program_itself_stay() -> None:
    assert "\x1b[1;31m" in shown(Text("red", style="bold red"), color=True)
    assert "line\nline" in shown("line\nline")


def bar_at(*reached: tuple[float, int], total: int) -> str:
    """What the bar of a prediction shows after images were answered at these seconds, on one line."""
    clock = [0.0]
    progress = progress_bar()
    progress.get_time = lambda: clock[0]
    bar = Bar(progress, "predicting", unit="images/s")
    for seconds, done in reached:
        clock[0] = seconds
        bar.reach(done, total)
    return " ".join(shown(progress.get_renderable()).split())


def test_a_prediction_shows_its_speed_and_the_time_left() -> None:
    text = bar_at((0, 0), (1, 20), (2, 40), (4, 80), total=1000)
    assert "80/1000" in text
    assert "20.0 images/s" in text
    assert text.endswith("0:00:04 0:00:46"), "seconds spent, and 920 images at 20 a second"
    assert "unknown" not in text


def test_what_an_earlier_process_answered_is_no_part_of_the_speed() -> None:
    text = bar_at((0, 500), (5, 550), (10, 600), total=1000)
    assert "600/1000" in text
    assert "10.0 images/s" in text
    assert text.endswith("0:00:10 0:00:40")


def test_a_source_of_unknown_length_says_so() -> None:
    text = bar_at((0, 0), (1, 20), (2, 40), total=0)
    assert "40/?" in text
    assert "20.0 images/s, of an unknown number" in text
    assert text.endswith("0:00:02"), "no time left is made up"
    assert "of an unknown number" in bar_at((0, 0), total=0)


@pytest.mark.parametrize("width", [20, 80, 399])
def test_a_table_in_a_pipe_is_not_cut(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    cells = [f"{10**9 + number:,}" for number in range(20)]
    table = Table(*cells)
    table.add_row(*cells)

    def printed(**options: Any) -> str:
        file = io.StringIO()
        SafeConsole(file=file, width=width, **options).print(table)
        return file.getvalue()

    monkeypatch.delenv("COLUMNS", raising=False)
    text = printed()
    assert all(text.count(cell) == 2 for cell in cells)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, printed(force_terminal=True, color_system=None).splitlines())) <= width
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, printed().splitlines())) <= width
