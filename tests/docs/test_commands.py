"""Every command on a page parses, and every option, key and file that a page names exists."""

import re
import shlex

import click
import pytest

from benchmarks.study.experiment import load_experiment
from piwsl.cli.main import COMMANDS
from piwsl.learning.settings import load_learn_settings
from piwsl.models import registered_network, registered_networks
from piwsl.training.config import TrainingConfig, load_config
from tests.support.pages import PAGES, ROOT, all_titles, console, extras, find_command, name, options, require, spans

# Commands whose options a page may name; other pages may name those of all commands.
ABOUT = {
    "learning.md": ("learn", "data label"),
    "data.md": ("train", "data fetch", "data inspect", "data convert", "data label"),
    "training.md": ("train", "evaluate", "tune"),
    "export.md": ("export",),
    "molecular_dynamics.md": ("md",),
    "analysis.md": ("analyze",),
}
SHELL = {"export", "cd", "cp", "git", "pre-commit", "source"}  # programs that are not checked
PATHS = re.compile(r"(?:piwsl|docs|examples|benchmarks|tests)/[\w./-]+")


def makefile(pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_pip(words: list[str]) -> None:
    assert words[:1] == ["install"], f"pip {words}"
    for word in words[1:]:
        if match := re.fullmatch(r"(?:piwsl|\.)\[([\w,-]+)\]", word):
            assert set(match[1].split(",")) <= extras(), f"unknown extra in {word}"


def check_piwsl(words: list[str]) -> None:
    if not words or words in (["--help"], ["--version"]):
        return
    title, command, rest = find_command(words)
    try:
        context = command.make_context(title, list(rest))
    except click.UsageError as error:
        raise AssertionError(f"piwsl {' '.join(words)}: {error.format_message()}") from None
    except click.exceptions.Exit:  # --help
        return
    overrides = list(context.params.get("overrides", ()))
    if title == "learn":
        load_learn_settings(None, overrides)
        return
    if start := context.params.get("init_from"):  # methods of fine-tuning require it
        overrides.append(f"start.init_from={start}")
    load_config(None, overrides)


def without_launcher(line: str) -> str:
    line = re.sub(r"^torchrun --nproc-per-node \d+ -m piwsl\.cli ", "piwsl ", line)
    return re.sub(r"^srun --ntasks-per-node \d+ ", "", line)


def check_command(line: str) -> None:
    program, *words = shlex.split(without_launcher(line).replace(".venv/bin/", ""))
    if program == "piwsl":
        check_piwsl(words)
    elif program == "pip":
        check_pip(words)
    elif program == "make":
        for word in words:
            variable, _, value = word.partition("=")
            known = makefile(r"^([A-Z_]+) \?=") if value else makefile(r"^([a-z-]+):")
            assert variable in known, f"Makefile has no {variable}"
    elif program == "python" and words[:2] == ["-m", "benchmarks.study"]:
        assert words[2] in ("run", "table", "plot")
        load_experiment(words[3])
    elif program == "python":
        assert PATHS.fullmatch(words[0]), f"python runs {words[0]}, which is no file of the repository"
    else:
        assert program in SHELL, f"{program}: a program that this test does not know"


COMMAND_LINES = [pytest.param(line, id=f"{name(page)}: {line}") for page in PAGES for line in console(page)]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_parses(line):
    check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "piwsl trane",
        "piwsl md --sistem aspirin",
        "piwsl md --engine lammps",
        "piwsl export",
        "piwsl data labels --output x",
        "torchrun --nproc-per-node 2 -m piwsl.cli trane",
        "piwsl train -o los.pitc=1",
        "make all",
        "make PITHON=python3.11 test",
        "pip install 'piwsl[everything]'",
        "python train.py",
        "rm -rf runs",
    ],
)
def test_a_wrong_command_is_detected(line):
    with pytest.raises(Exception):  # noqa: B017, PT011 (an assertion, or the error of the code itself)
        check_command(line)


NAMED_PATHS = sorted(
    {
        (name(page), path.rstrip("./"))
        for page in PAGES
        for text in (*console(page), *spans(page))
        for path in PATHS.findall(text)
        if "NAME" not in path  # a pattern
        if text.startswith(path) or f" {path}" in text
    }
)


@pytest.mark.parametrize(("page", "path"), NAMED_PATHS)
def test_a_named_file_exists(page, path):
    require(ROOT / path)
    assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_options_exist(page):
    for span in spans(page):
        words = span.replace("...", "").split()
        if words[:1] == ["piwsl"] and len(words) > 1 and words[1] in COMMANDS:
            titles = [find_command(words[1:])[0]] if words[1] != "data" or len(words) > 2 else []
        elif words and words[0].startswith("--"):
            titles = list(ABOUT.get(page.name, all_titles()))
        else:
            continue
        known = {text: option for title in titles for text, option in options(title).items()}
        for word, value in zip(words, [*words[1:], ""], strict=True):
            if not word.startswith("-") or word in ("--debug", "--help", "--version"):
                continue
            assert word in known, f"{name(page)}: {word} of {span!r} is no option of {' or '.join(titles)}"
            if value and isinstance(known[word].type, click.Choice):
                assert value in known[word].type.choices, f"{name(page)}: {span!r}"


def keys() -> set[str]:
    """Return every key of the training configuration, with its section, and the options of every network."""
    sections = TrainingConfig().model_dump()
    found = {f"{section}.{key}" for section, value in sections.items() if isinstance(value, dict) for key in value}
    options = [registered_network(network).options.model_fields for network in registered_networks()]
    return found | {f"model.{key}" for fields in options for key in fields}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_keys_exist(page):
    for span in spans(page):
        match = re.match(r"((?:data|model|start|loss|displacement|optimizer)\.\w+)(?:$|[=:])", span)
        if match and not span.endswith((".pt", ".extxyz", ".xyz")):
            assert match[1] in keys(), f"{name(page)}: {match[1]} is no key of the configuration"
