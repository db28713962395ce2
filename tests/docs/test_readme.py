"""The pages say what is true: commands parse, files and links exist, options and defaults are those of the code.

The console commands of README.md are also run, in order, in a temporary directory. What makes them short stands in the
tables `SHORTER`, `ADDED` and `USER_FILES`.
"""

import ast
import json
import re
import shlex
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from piwsl.cli.data import COMMANDS as DATA_COMMANDS
from piwsl.cli.main import COMMANDS, piwsl, run
from piwsl.data.read import source_name
from piwsl.data.systems import RESOURCES, named_system
from piwsl.errors import MissingDependencyError
from piwsl.export.exported_file import read_exported_info
from piwsl.export.verify import TOLERANCES
from piwsl.md.stop.rules import rules_table
from piwsl.training.config import TrainingConfig, load_config
from piwsl.training.tuning.settings import load_settings
from piwsl.units import KCAL_PER_MOL

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "piwsl/resources/README.md")
    if page.is_file()
]

# Values of options in the commands of README.md -> values for the test.
SHORTER = {("md", "--steps"): "400"}
# Words added to the commands of README.md; the last value given for a key counts.
ADDED = {
    "train": [
        word
        for setting in (
            "data.train=40",
            "data.validation=10",
            "data.test=10",
            "model.channels=8",
            "model.layers=1",
            "optimizer.steps=20",
            "optimizer.batch_size=4",
            "optimizer.validation_interval=10",
            "threads=1",
        )
        for word in ("-o", setting)
    ],
}
# Files of the reader that README.md names -> what stands in for them (see `user_files`). A model from 20 steps of
# training is no potential: once `piwsl train` has written its model.pt, the bundled model takes its place.
USER_FILES = ("rmd17_aspirin.npz", "aspirin.xyz")
USER_FRAMES = 100

# Made by long computations, not by hand: whatever needs one that is absent is skipped and says which.
COMPUTED = [
    *(RESOURCES / f"aspirin{end}" for end in (".xyz", "_train.npz", "_test.npz", "_reference.xtc", "_reference.pdb")),
    RESOURCES / "aspirin_model.pt",
    RESOURCES / "aspirin_openmm.pt",
    ROOT / "docs/images/h_of_r.png",
]

# Commands whose options a page may name; other pages may name any.
ABOUT = {
    "data.md": ("train", "data fetch", "data inspect", "data convert", "data label"),
    "training.md": ("train", "evaluate", "tune"),
    "export.md": ("export",),
    "molecular_dynamics.md": ("md",),
    "analysis.md": ("analyze",),
}
SHELL = {"cd", "cp", "git", "source"}  # programs that are not ours to check
PATHS = re.compile(r"(?:piwsl|docs|examples|benchmarks|tests)/[\w./-]+")


def fences(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def console(page: Path) -> list[str]:
    return [line for block in fences(page, "console") for line in block.splitlines() if line.strip()]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def require(*files: Path) -> None:
    """Skip where a computed file is still absent."""
    absent = [str(file.relative_to(ROOT)) for file in files if file in COMPUTED and not file.exists()]
    if absent:
        pytest.skip(f"not computed yet: {', '.join(absent)}")


def find_command(words: list[str]) -> tuple[str, click.Command, list[str]]:
    """Name, command and remaining words of what follows `piwsl`."""
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
    """Options of a command by each of their names."""
    command = find_command(title.split())[1]
    found = [param for param in command.params if isinstance(param, click.Option)]
    return {text: option for option in found for text in option.opts}


def all_titles() -> list[str]:
    return [*(title for title in COMMANDS if title != "data"), *(f"data {name}" for name in DATA_COMMANDS)]


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def makefile_variables() -> set[str]:
    return set(re.findall(r"^([A-Z]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    section = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))


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
    load_config(None, context.params.get("overrides", ()))


def without_launcher(line: str) -> str:
    """The command of one process."""
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
            known = makefile_variables() if value else makefile_targets()
            assert variable in known, f"Makefile has no {variable}"
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
def test_a_wrong_command_is_found(line):
    with pytest.raises(Exception):  # noqa: B017, PT011 (an assertion, or the error of the code itself)
        check_command(line)


NAMED_PATHS = sorted(
    {
        (name(page), path.rstrip("./"))
        for page in PAGES
        for text in (*console(page), *spans(page))
        for path in PATHS.findall(text)
        if text.startswith(path) or f" {path}" in text
    }
)


@pytest.mark.parametrize(("page", "path"), NAMED_PATHS)
def test_a_named_file_exists(page, path):
    require(ROOT / path)
    assert (ROOT / path).exists(), f"{page} names {path}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    pending = []
    for target in targets:
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
    index = (ROOT / "docs/README.md").read_text()
    assert all(f"({page.name})" in index for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_options_exist(page):
    for span in spans(page):
        words = span.replace("...", "").split()
        if words[:1] == ["piwsl"] and len(words) > 1 and words[1] in COMMANDS:
            titles = [find_command(words[1:])[0]] if words[1] != "data" or len(words) > 2 else []
        elif words[0].startswith("--"):
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


def config_defaults() -> dict[str, object]:
    """Every key of the configuration with its default."""
    found: dict[str, object] = {}
    for section, value in TrainingConfig().model_dump().items():
        found.update({f"{section}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {})
        if not isinstance(value, dict):
            found[section] = value
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_keys_exist(page):
    for span in spans(page):
        if re.fullmatch(r"(data|model|start|loss|displacement|optimizer)\.\w+", span) and not span.endswith(
            (".pt", ".extxyz", ".xyz")
        ):
            assert span in config_defaults(), f"{name(page)}: {span} is no key of the configuration"


def table(page: str, cell: str) -> list[list[str]]:
    """Cells of the table of a page with a row that begins with ``cell`` in backticks; the header first."""
    for block in re.findall(r"(?:^\|.*\n)+", (ROOT / "docs" / page).read_text(), re.MULTILINE):
        rows = [[one.strip() for one in line.strip("|").split("|")] for line in block.splitlines()]
        if any(row[0].startswith(f"`{cell}`") for row in rows):
            return rows[:1] + rows[2:]
    raise AssertionError(f"{page} has no table with a row {cell}")


def yaml_text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple | list):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_key_is_documented_with_its_default():
    said = {row[0].strip("`"): row[1].strip("`") for row in table("training.md", "data.system")[1:]}
    assert said == {key: yaml_text(value) for key, value in config_defaults().items()}


@pytest.mark.parametrize(
    ("page", "title", "first"),
    [
        ("data.md", "data label", "--workers"),
        ("data.md", "data fetch", "--folder"),
        ("training.md", "train", "--seeds"),
        ("training.md", "evaluate", "--plot"),
        ("export.md", "export", "--target"),
        ("molecular_dynamics.md", "md", "--engine"),
        ("analysis.md", "analyze", "--reference"),
    ],
)
def test_every_option_is_documented_with_its_default(page, title, first):
    header, *rows = table(page, first)
    said = {option: row[1].strip("`") for row in rows for option in re.findall(r"`([^`]+)`", row[0])}
    known = options(title)
    assert set(said) == set(known)
    if header[1] != "default":
        return
    for text, option in known.items():
        default = None if option.multiple else option.to_info_dict()["default"]
        if default is not None and not option.is_flag:
            assert said[text] == str(default), f"default of {text}"


def test_every_extra_is_documented():
    rows = table("installation.md", "openmm")[1:]
    assert {extra for row in rows for extra in re.findall(r"`([^`]+)`", row[0])} == extras()


def test_every_stop_rule_is_documented():
    header, *rows = table("molecular_dynamics.md", "nan")
    assert header == ["rule", "limit", "active", "violated when"]
    said = [[cell.replace("`", "") for cell in row] for row in rows]
    assert said == [list(row) for row in rules_table()]


def test_tolerances_of_the_export_are_those_of_the_code():
    text = (ROOT / "docs/export.md").read_text()
    rows = [re.findall(r"\| (\de-\d+) eV", line) for line in text.splitlines()]
    said = [[float(value) for value in row] for row in rows if len(row) == 2]
    fields = ("energy_per_atom", "force", "finite_difference", "finite_strain")
    assert said == [[getattr(TOLERANCES[kind], field) for kind in ("float32", "float64")] for field in fields]


@pytest.mark.parametrize(
    ("page", "module"),
    [("training.md", "piwsl.training.directory"), ("molecular_dynamics.md", "piwsl.md.run_directory")],
)
def test_every_file_of_a_run_is_documented(page, module):
    constants = {key: value for key, value in vars(import_module(module)).items() if key.isupper()}
    files = {value for value in constants.values() if isinstance(value, str) and "." in value}
    assert len(files) >= 7
    assert files <= set(spans(ROOT / "docs" / page))


def test_every_key_of_the_model_files_is_documented():
    aspirin = named_system("aspirin")
    require(aspirin.model, aspirin.exported)
    content = torch.load(aspirin.model, weights_only=True)
    keys = {*content, *json.loads(content["description"]), *read_exported_info(aspirin.exported)}
    assert keys <= set(spans(ROOT / "docs/files.md"))


YAML_BLOCKS = [pytest.param(block, id=name(page)) for page in PAGES for block in fences(page, "yaml")]
PYTHON_BLOCKS = [pytest.param(block, id=name(page)) for page in PAGES for block in fences(page, "python")]


@pytest.mark.parametrize("block", YAML_BLOCKS)
def test_a_configuration_is_valid(block, tmp_path):
    (tmp_path / "config.yaml").write_text(block)
    load_settings(tmp_path / "config.yaml")


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
def test_python_compiles_and_imports(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "piwsl":
            try:
                module = import_module(node.module)
            except MissingDependencyError as error:
                pytest.skip(str(error))
            assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)
    if "check_model(" in block:  # needs no file
        exec(compile(block, "page", "exec"), {})


@dataclass
class Reader:
    """Types the commands of README.md, shortened, in the working directory."""

    def type(self, line: str) -> None:
        program, *words = shlex.split(line.replace(".venv/bin/", ""))
        if program != "piwsl":
            return  # checked by `test_a_command_parses`; make and pip are the way to where this test runs
        title, command, _ = find_command(words)
        for (whose, option), value in SHORTER.items():
            if title == whose and option in words:
                words[words.index(option) + 1] = value
        words += ADDED.get(title, [])
        code = 0
        try:
            run(words)
        except SystemExit as end:
            code = int(end.code or 0)
        assert code == 0, f"{line} (as {shlex.join(words)}): exit code {code}"
        if title == "train":
            given = command.make_context(title, words[1:]).params
            source = given["system"] or source_name(given["data_file"])
            model = (given["output"] or Path("runs") / f"train-{source}") / "model.pt"
            assert model.is_file()
            shutil.copyfile(named_system("aspirin").model, model)


def user_files(folder: Path) -> None:
    """What a reader of README.md has at hand: bundled frames as another program would give them, in kcal/mol."""
    aspirin = named_system("aspirin")
    with np.load(aspirin.train) as bundled:
        np.savez(
            folder / "rmd17_aspirin.npz",
            nuclear_charges=bundled["nuclear_charges"],
            coords=bundled["coords"][:USER_FRAMES],
            energies=bundled["energies"][:USER_FRAMES] / KCAL_PER_MOL,
            forces=bundled["forces"][:USER_FRAMES] / KCAL_PER_MOL,
        )
    shutil.copyfile(aspirin.structure_file, folder / "aspirin.xyz")


def test_the_commands_of_the_readme_run(tmp_path, monkeypatch):
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("there is no README.md")
    require(*(file for file in COMPUTED if file.parent == RESOURCES))
    user_files(tmp_path)
    assert all((tmp_path / file).is_file() for file in USER_FILES)
    # Paths of the repository work as they do at its root; these are copies, so that nothing is written there.
    for folder in ("piwsl/resources", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in RESOURCES.iterdir())
    reader = Reader()
    for line in console(readme):
        reader.type(line)
    summaries = [json.loads(path.read_text()) for path in tmp_path.rglob("summary.json")]
    keys = {key for summary in summaries if "engine" in summary for key in summary}
    assert keys
    assert keys <= set(spans(ROOT / "docs/files.md"))
    assert sorted(path.name for path in RESOURCES.iterdir()) == before
