"""Every command of the command line with its arguments and options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import typer

from docs.hooks.source import cell


def commands() -> Iterator[tuple[str, Any]]:
    """Words of each command (``phisight data build``) and the command; groups themselves are left out."""
    from phisight.cli import app

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, one in command.commands.items():
                yield from walk(f"{words} {name}", one)
        else:
            yield words, command

    yield from walk("phisight", typer.main.get_command(app))


def commands_page() -> str:
    """The page of all commands, as Markdown."""
    lines = [
        "# Every command",
        "",
        "The same is said by `phisight COMMAND --help`. `phisight --version` prints the version; "
        "`phisight --debug COMMAND` shows the traceback of an error.",
        "",
    ]
    for words, command in commands():
        lines += [f"## `{words}`", "", *_prose(command.help or ""), ""]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and "--help" not in one.opts]
        if arguments:
            lines += ["| argument | |", "|---|---|"]
            lines += [f"| `{_metavar(one)}` | {cell(getattr(one, 'help', None) or '')} |" for one in arguments]
            lines.append("")
        if options:
            lines += ["| option | value | |", "|---|---|---|"]
            lines += [_option(one) for one in options]
            lines.append("")
    return "\n".join(lines)


def _prose(text: str) -> list[str]:
    """A command's help: paragraphs, and its examples as blocks of sh."""
    found: list[str] = []
    for paragraph in inspect.cleandoc(text).replace("\b", "").split("\n\n"):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        examples = [line.removeprefix("Example:").strip() for line in lines]
        if lines and lines[0].startswith(("Example", "phisight ")):
            shown = [one for one in examples if one and one != "Examples:"]
            found += ["", "```sh", *shown, "```", ""]
        else:
            found += [" ".join(lines).replace("<", "&lt;"), ""]
    return found


def _metavar(parameter: Any) -> str:
    many = "..." if parameter.nargs == -1 else ""
    return str(parameter.metavar or parameter.name.upper()).replace("|", " or ") + many


def _option(one: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
    kind = "" if one.is_flag else _kind(one.type_descriptor.annotation)
    default = one.default
    if isinstance(default, str | int | float) and not isinstance(default, bool) and default != "":
        kind += f"{', ' if kind else ''}default `{default}`"
    text = (one.help or "") + (" Repeatable." if one.multiple and "epeat" not in (one.help or "") else "")
    required = "**required.** " if one.required else ""
    return f"| {names} | {cell(kind)} | {required}{cell(text)} |"


def _kind(annotation: Any) -> str:
    """What a value is: the choices of a literal, else the type's name."""
    if choices := [one for one in get_args(annotation) if isinstance(one, str)]:
        return " ".join(f"`{one}`" for one in choices)
    if get_origin(annotation) is not None:
        return " or ".join(_kind(one) for one in get_args(annotation) if one is not type(None))
    return {"str": "text", "Path": "path", "int": "integer", "float": "number"}.get(annotation.__name__, "")
