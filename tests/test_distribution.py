"""The source distribution and the wheel: complete, without the tests, and usable from an empty environment."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="build is not installed")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "Makefile",
           "CONTRIBUTING.md", "constraints.txt", "piwsl", "tests", "docs", "examples", "benchmarks",
           "md", "export", "cli")  # fmt: skip
DATA = (
    "piwsl/py.typed",
    *(f"piwsl/analysis/report/{folder}/*" for folder in ("templates", "viewer")),
    "piwsl/learning/templates/*",
    "piwsl/resources/*",
)


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command without the variables that lead to the source tree; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the source distribution, and the wheel from it, in a copy of the tree; return both paths."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        source, target = ROOT / name, tree / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", tree / "dist", cwd=tree)
    (source_distribution,) = (tree / "dist").glob("*.tar.gz")
    (wheel,) = (tree / "dist").glob("*.whl")
    return source_distribution, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment, which borrows the dependencies of this one; return its programs."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    programs = environment / "bin"
    call(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--no-deps", "--no-index",
         distributions[1], cwd=environment)  # fmt: skip
    site = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    # A path file adds the folder, not the path files inside it: an editable piwsl of this environment stays invisible.
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def test_wheel_holds_the_package_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(distributions[1]).namelist())
    expected = {str(path.relative_to(ROOT)) for pattern in ("piwsl/**/*.py", *DATA) for path in ROOT.glob(pattern)}
    assert expected <= names
    assert {name.split("/")[0] for name in names - expected} == {"piwsl-0.1.0.dist-info"}


def test_source_distribution_holds_each_file_once(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        members = archive.getmembers()
    names = [member.name.partition("/")[2] for member in members]
    assert len(names) == len(set(names))
    assert all(member.isfile() or member.isdir() for member in members)
    assert {"pyproject.toml", "CHANGELOG.md", "LICENSE", "tests/conftest.py", "docs/README.md"} <= set(names)
    assert not {"md", "export", "cli"} & {name.split("/")[0] for name in names}


def test_wheel_works_in_another_environment(installed: Path, tmp_path: Path) -> None:
    where = call(installed / "python", "-c", "import piwsl; print(piwsl.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert call(installed / "piwsl", "--version", cwd=tmp_path).startswith("piwsl, version 0.1.0")
    call(installed / "piwsl", "md", "--system", "aspirin", "--engine", "ase", "--steps", "200", "--output", "run",
         cwd=tmp_path)  # fmt: skip
    call(installed / "piwsl", "analyze", "run", cwd=tmp_path)
    assert "3Dmol" in (tmp_path / "run/analysis/report.html").read_text()
