"""Nothing from data moves the cursor, changes the title or the clipboard of a terminal."""

import io

from rich.table import Table
from rich.text import Text

from phisight.cli.screen import SafeConsole

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
