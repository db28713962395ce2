"""Settings of the documentation site: ``make docs`` builds it into build/docs."""

import os
import sys
from pathlib import Path
from typing import Any

import click
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
# Modules are imported to read their docstrings; nothing is computed.
os.environ.setdefault("MPLBACKEND", "Agg")

import piwsl.models.build  # noqa: E402, F401 (pydantic fails on such classes once autodoc has looked at BaseModel)
from piwsl._version import __version__  # noqa: E402 (the path is set above)
from piwsl.cli.main import piwsl as command_line  # noqa: E402

project = "piwsl"
author = "The piwsl developers"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["README.md"]  # the index on a code host; see `index_from_readme`
# Pages outside docs that README.md links to -> pages of the site that include them.
INCLUDED = {"../piwsl/resources/README.md": "bundled_aspirin.md", "../CONTRIBUTING.md": "contributing.md"}

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"special-members": "__call__"}
add_module_names = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]
smartquotes = False  # they turn the hyphens of options into dashes

html_theme = "furo"
html_title = f"piwsl {release}"
html_show_copyright = False
html_show_sourcelink = False


def show_defaults(command: click.Command) -> None:
    """Show the default of each option that has one, as ``--help`` does: sphinx-click ignores the command's settings."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            if inner is not None:
                show_defaults(inner)
    for option in command.params:
        if not isinstance(option, click.Option) or option.is_flag or option.multiple or option.show_default is not None:
            continue
        if option.to_info_dict()["default"] is not None:
            option.show_default = command.context_settings.get("show_default")


def index_from_readme(_app: Sphinx, name: str, source: list[str]) -> None:
    """Put README.md, the index on a code host, at the beginning of the index of the site."""
    if name == "index":
        readme = (HERE / "README.md").read_text(encoding="utf-8")
        for page, including in INCLUDED.items():
            readme = readme.replace(page, including)
        source[0] = readme + source[0]


def keep_bars(_app: Sphinx, _kind: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Keep the bars of absolute values in docstrings, which reStructuredText takes for substitutions."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        lines[number] = "``".join(part if index % 2 else part.replace("|", "\\|") for index, part in enumerate(parts))


def setup(app: Sphinx) -> None:
    """Connect the functions of this file to the build."""
    show_defaults(command_line)
    app.connect("source-read", index_from_readme)
    app.connect("autodoc-process-docstring", keep_bars)
