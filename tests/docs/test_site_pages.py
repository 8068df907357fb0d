"""Pages that the site makes of the program hold everything they should, and its guard sees what it should refuse."""

import importlib
import re
from pathlib import Path

import pytest

from docs.hooks.command_pages import commands, commands_page
from docs.hooks.error_pages import entries, error_tree, errors_page, messages
from docs.hooks.llms import write_markdown
from docs.hooks.outside import outside_pages, plain_fences, site_links
from docs.hooks.python_pages import public_names, python_page
from docs.hooks.recipe_pages import recipes_page, settings_page
from phisight.core.errors import PhisightError
from phisight.core.recipe import known_keys

ROOT = Path(__file__).parents[2]
GUIDES = (
    *("quick-start", "tables", "tasks", "data", "sample-data", "choosing", "gpu", "training", "price", "runs"),
    *("trackers", "report", "export", "prediction", "serving"),
)


def subclasses(kind: type[BaseException]) -> set[str]:
    return {kind.__name__}.union(*(subclasses(one) for one in kind.__subclasses__()))


def test_every_error_class_has_its_entry() -> None:
    assert set(entries()) == set(error_tree())
    assert all(set(entry) == {"cause", "repair"} and all(entry.values()) for entry in entries().values())


def test_the_tree_that_is_read_is_the_one_that_is_there() -> None:
    importlib.import_module("phisight.serve.protocol.api_error")
    importlib.import_module("phisight.data.images.rejection")
    found = {name for name in subclasses(PhisightError) if not name.startswith("_")}
    assert found == set(error_tree())


def test_messages_are_found_where_they_are_raised() -> None:
    said = messages()
    assert any("another image does not change the loss" in text for text in said["ImageCheckError"])
    assert sum(map(len, said.values())) > 300
    page = errors_page()
    assert all(f"## {name}\n" in page for name in error_tree())


@pytest.mark.parametrize("key", [key for key in known_keys() if key != "task"])
def test_every_setting_is_on_its_page_with_a_sentence(key: str) -> None:
    line = next(line for line in settings_page().splitlines() if line.startswith(f"| `{key}` |"))
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert len(cells) == 4
    assert all(cells), f"{key} lacks a type, a default or a sentence: {line}"


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=[words for words, _ in commands()])
def test_every_option_is_on_the_page(words: str, command: object) -> None:
    section = commands_page().split(f"\n## `{words}`\n")[1].split("\n## ")[0]
    for parameter in getattr(command, "params", []):
        names = [name for name in parameter.opts if name.startswith("--") and name != "--help"]
        assert all(f"`{name}`" in section for name in names)
    assert "``" not in re.sub(r"^```.*$", "", section, flags=re.MULTILINE)


def test_every_public_name_is_on_the_page() -> None:
    import phisight

    public = {name for name in phisight.__all__ if not name.startswith("_")}
    assert set(public_names()) == public
    page = python_page()
    assert all(f"## `phisight.{name}`\n" in page for name in public)
    assert "### `Extractor.extract_many`" in page
    assert "``" not in re.sub(r"^```.*$", "", page, flags=re.MULTILINE)


def test_every_recipe_is_on_the_page() -> None:
    page = recipes_page()
    assert all(f"## {path.stem}\n" in page for path in (ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_ends_with_what_to_do_when_it_goes_wrong(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[-1] == "When it goes wrong"


def test_links_are_those_of_the_site() -> None:
    text = (
        "[a](docs/data.md#speed) [b](CONTRIBUTING.md) [![c](docs/images/c.jpg)](docs/images/c.jpg) [d](https://d.org)"
    )
    assert site_links(text, "README.md", "index.md") == (
        "[a](data.md#speed) [b](contributing.md) [![c](images/c.jpg)](images/c.jpg) [d](https://d.org)"
    )
    assert site_links("[a](../../README.md)", "docs/decisions/1.md", "decisions/1.md") == "[a](../index.md)"
    fenced = "```sh\n[a](docs/data.md)\n```\n"
    assert site_links(fenced, "README.md", "index.md") == fenced
    assert "benchmarks/results/nvidia-h200-2026-11.md" in outside_pages().values()


def test_every_page_is_there_as_markdown_and_in_the_list(tmp_path: Path) -> None:
    pages = {"index.md": "# Home\n", "guide.md": "# A guide\n\n| a |\n|---|\n| b |\n", "x/left.md": "# Left\n"}
    nav = [{"Home": "index.md"}, {"Guides": [{"One": "guide.md"}]}]
    write_markdown(tmp_path, pages, nav, head="# site", address="https://s.org/")
    assert "## Guides\n\n- [A guide](https://s.org/guide.md)\n" in (tmp_path / "llms.txt").read_text()
    assert (tmp_path / "llms-full.txt").read_text().count("| b |") == 1
    assert {page: (tmp_path / page).read_text() for page in pages} == pages


def test_marks_for_the_tests_do_not_reach_the_reader() -> None:
    assert plain_fences("```sh run small\nphisight\n```\n") == "```sh\nphisight\n```\n"


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<script src="https://unpkg.com/x.js"></script>', ".html"),
        ('<link rel="stylesheet" href="https://fonts.example/css">', ".html"),
        ("<img alt='' src=//host/1.png>", ".html"),
        ("@import url(https://fonts.example/css)", ".css"),
        (f"trained in {ROOT}/runs", ".md"),
    ],
)
def test_the_guard_sees_what_the_site_may_not_hold(text: str, suffix: str) -> None:
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    from docs.hooks.site_hook import problems

    assert problems(text, suffix)
    assert not problems('<a href="https://d.org">d</a><img src="images/1.jpg"><script src="a.js"></script>', ".html")
