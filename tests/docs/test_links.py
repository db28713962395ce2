"""Links between pages lead to files and headings that exist."""

import re
from pathlib import Path

import pytest

from tests.support.pages import COMPUTED, DOCS, PAGES, name, prose, require


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    pending = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if path in COMPUTED and not path.exists():
            pending.append(path)
            continue
        assert path.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(path), f"{name(page)} links to {target}: no such heading"
    require(*pending)


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text()
    site_only = {"README.md", "index.md", "bundled_aspirin.md", "contributing.md"}
    assert all(f"({page.name})" in index for page in DOCS.glob("*.md") if page.name not in site_only)


def test_every_page_is_in_the_site():
    trees = "".join(page.read_text() for page in (DOCS / "index.md", DOCS / "api.md"))
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    assert pages - {"README", "index"} <= set(trees.split())
