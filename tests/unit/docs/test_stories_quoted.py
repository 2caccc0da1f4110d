"""docs/stories.md quotes golden stories word for word; `UPDATE_GOLDEN=1` copies them into it."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/stories.md"
STORIES = ROOT / "tests/unit/operator/rollout/stories"
QUOTED = re.compile(r"(?<=<!-- story: )(?P<name>[-a-z0-9]+) -->\n```text\n(?P<text>.*?)```\n", re.DOTALL)


def update() -> None:
    def quote(found: re.Match[str]) -> str:
        return f"{found['name']} -->\n```text\n{(STORIES / (found['name'] + '.txt')).read_text()}```\n"

    PAGE.write_text(QUOTED.sub(quote, PAGE.read_text()))


if os.environ.get("UPDATE_GOLDEN"):
    update()
FOUND = {found["name"]: found["text"] for found in QUOTED.finditer(PAGE.read_text())}


@pytest.mark.parametrize("name", FOUND)
def test_a_quoted_story_is_the_one_that_the_core_tells(name: str) -> None:
    assert FOUND[name] == (STORIES / f"{name}.txt").read_text()


def test_the_page_quotes_at_least_four_stories_and_links_to_nothing_that_is_not_there() -> None:
    assert len(FOUND) >= 4
    page = PAGE.read_text()
    assert page.count("<!-- story:") == len(FOUND)
    assert all((STORIES / f"{name}.txt").is_file() for name in FOUND)
