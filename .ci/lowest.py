"""Print the lower bounds in pyproject.toml as constraints for pip.

Usage: python .ci/lowest.py > lowest.txt

A package that several extras require is printed once, at the smallest of its bounds.
"""

import sys
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lower_bounds(pyproject: Path) -> dict[str, Version]:
    """Return the lower bound of each required package that has one, by name."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    bounds: dict[str, Version] = {}
    for line in chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(line)
        for specifier in requirement.specifier:
            if specifier.operator == ">=":
                version = Version(specifier.version)
                bounds[requirement.name] = min(version, bounds.get(requirement.name, version))
    return bounds


if __name__ == "__main__":
    for name, version in sorted(lower_bounds(PYPROJECT).items()):
        print(f"{name}=={version}")
