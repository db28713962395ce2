"""YAML blocks of the pages are valid configurations; Python blocks compile, and their imports exist."""

import ast
from importlib import import_module

import pytest

from piwsl.errors import MissingDependencyError
from piwsl.training.tuning.settings import load_settings
from tests.support.pages import PAGES, fences, name

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
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "piwsl":
            assert hasattr(import_module("piwsl"), node.attr), ast.unparse(node)
    if "check_model(" in block:  # needs no file
        exec(compile(block, "page", "exec"), {})
