"""Tables of the pages list what the code defines: keys, options, extras, rules, tolerances and files."""

import json
import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import torch

from piwsl.data.systems import named_system
from piwsl.export.exported_file import read_exported_info
from piwsl.export.verify import TOLERANCES
from piwsl.md.stop.rules import rules_table
from tests.support.pages import DOCS, extras, options, require, spans, table


def test_the_configuration_page_is_that_of_the_types():
    spec = spec_from_file_location("configuration", DOCS / "configuration.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "configuration.md").read_text() == module.page(), "run python docs/configuration.py"


@pytest.mark.parametrize(
    ("page", "title", "first"),
    [
        ("learning.md", "learn", "--method"),
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
    header, *rows = table(DOCS / page, first)
    documented = {option: row[1].strip("`") for row in rows for option in re.findall(r"`([^`]+)`", row[0])}
    known = options(title)
    assert set(documented) == set(known)
    if header[1] != "default":
        return
    for text, option in known.items():
        default = None if option.multiple else option.to_info_dict()["default"]
        if default is not None and not option.is_flag:
            assert documented[text] == str(default), f"default of {text}"


def test_every_extra_is_documented():
    rows = table(DOCS / "installation.md", "openmm")[1:]
    assert {extra for row in rows for extra in re.findall(r"`([^`]+)`", row[0])} == extras()


def test_every_stop_rule_is_documented():
    header, *rows = table(DOCS / "molecular_dynamics.md", "nan")
    assert header == ["rule", "limit", "active", "violated when"]
    documented = [[cell.replace("`", "") for cell in row] for row in rows]
    assert documented == [list(row) for row in rules_table()]


def test_tolerances_of_the_export_are_those_of_the_code():
    text = (DOCS / "export.md").read_text()
    rows = [re.findall(r"\| (\de-\d+) eV", line) for line in text.splitlines()]
    documented = [[float(value) for value in row] for row in rows if len(row) == 2]
    fields = ("energy_per_atom", "force", "finite_difference", "finite_strain")
    assert documented == [[getattr(TOLERANCES[kind], field) for kind in ("float32", "float64")] for field in fields]


@pytest.mark.parametrize(
    ("page", "module"),
    [("training.md", "piwsl.training.directory"), ("molecular_dynamics.md", "piwsl.md.run_directory")],
)
def test_every_file_of_a_run_is_documented(page, module):
    constants = {key: value for key, value in vars(import_module(module)).items() if key.isupper()}
    files = {value for value in constants.values() if isinstance(value, str) and "." in value}
    assert len(files) >= 7
    assert files <= set(spans(DOCS / page))


def test_every_key_of_the_model_files_is_documented():
    aspirin = named_system("aspirin")
    require(aspirin.model, aspirin.exported)
    content = torch.load(aspirin.model, weights_only=True)
    keys = {*content, *json.loads(content["description"]), *read_exported_info(aspirin.exported)}
    assert keys <= set(spans(DOCS / "files.md"))
