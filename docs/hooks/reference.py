"""The pages that are made of the program."""

from __future__ import annotations

from docs.hooks.command_pages import commands_page
from docs.hooks.error_pages import errors_page
from docs.hooks.python_pages import python_page
from docs.hooks.recipe_pages import recipes_page, settings_page

REFERENCE = {
    "reference/recipe.md": settings_page,
    "reference/recipes.md": recipes_page,
    "reference/commands.md": commands_page,
    "reference/python.md": python_page,
    "reference/errors.md": errors_page,
}
"""Pages made of the program: place on the site -> what makes its Markdown."""
