"""The pages of the documentation: their code blocks, code spans and tables, and the commands they name."""

import re
from pathlib import Path

import click
import pytest

from piwsl.cli.cache import COMMANDS as CACHE_COMMANDS
from piwsl.cli.data import COMMANDS as DATA_COMMANDS
from piwsl.cli.main import COMMANDS, piwsl
from piwsl.data.systems import RESOURCES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(DOCS.glob("*.md")),
        *sorted(DOCS.glob("api/*.md")),
        RESOURCES / "README.md",
    )
    if page.is_file()
]

# Made by long computations, not by hand: a test that needs an absent one is skipped.
COMPUTED = [
    *(RESOURCES / f"aspirin{end}" for end in (".xyz", "_train.npz", "_test.npz", "_reference.xtc", "_reference.pdb")),
    RESOURCES / "aspirin_model.pt",
    RESOURCES / "aspirin_openmm.pt",
    DOCS / "images/h_of_r.png",
]


def name(page: Path) -> str:
    """Return the path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def fences(page: Path, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def console(page: Path) -> list[str]:
    """Return the lines of the console blocks."""
    return [line for block in fences(page, "console") for line in block.splitlines() if line.strip()]


def prose(page: Path) -> str:
    """Return the text without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """Return the code spans of the prose."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def table(page: Path, cell: str) -> list[list[str]]:
    """Return the cells, header first, of the table with a row that begins with ``cell`` in backticks."""
    for block in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
        rows = [[text.strip() for text in line.strip("|").split("|")] for line in block.splitlines()]
        if any(row[0].startswith(f"`{cell}`") for row in rows):
            return rows[:1] + rows[2:]
    raise AssertionError(f"{name(page)} has no table with a row {cell}")


def require(*files: Path) -> None:
    """Skip a test whose computed file is absent."""
    absent = [name(file) for file in files if file in COMPUTED and not file.exists()]
    if absent:
        pytest.skip(f"not computed yet: {', '.join(absent)}")


def find_command(words: list[str]) -> tuple[str, click.Command, list[str]]:
    """Return the name, the command and the remaining words of what follows `piwsl`."""
    words = [word for word in words if word not in ("--debug", "--version", "--help")]
    if not words or words[0] not in COMMANDS:
        raise AssertionError(f"piwsl has no command {' '.join(words[:1])!r}")
    title, rest = words[0], words[1:]
    command = piwsl.get_command(click.Context(piwsl), title)
    assert command is not None
    if isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), rest[0]) if rest else None
        if inner is None:
            raise AssertionError(f"piwsl {title} has no command {' '.join(rest[:1])!r}")
        title, command, rest = f"{title} {rest[0]}", inner, rest[1:]
    return title, command, rest


def options(title: str) -> dict[str, click.Option]:
    """Return the options of a command by each of their spellings."""
    command = find_command(title.split())[1]
    return {text: option for option in command.params if isinstance(option, click.Option) for text in option.opts}


def all_titles() -> list[str]:
    """Return the names of all commands."""
    groups = {"data": DATA_COMMANDS, "cache": CACHE_COMMANDS}
    inner = (f"{group} {name}" for group, names in groups.items() for name in names)
    return [*(title for title in COMMANDS if title not in groups), *inner]


def extras() -> set[str]:
    """Return the extras of pyproject.toml."""
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))
