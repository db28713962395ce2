"""`piwsl learn` on the command line: plan, template and mistakes. (Whole jobs: `tests/learning`.)"""

import pytest
import yaml
from ase.build import molecule
from ase.io import write

from piwsl.cli.main import run
from tests.support.models_for_tests import trained_file


def typed(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        run(["learn", *map(str, arguments)])
    shown = capsys.readouterr()
    return end.value.code or 0, shown.out, shown.err


@pytest.fixture
def water(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("water.xyz", molecule("H2O"))
    return "water.xyz"


def test_a_dry_run_describes_the_stages_and_writes_nothing(water, tmp_path, capsys):
    model = trained_file(tmp_path / "start.pt")
    code, out, _ = typed(
        [water, "--budget", 40, "--init-from", model, "--dry-run", "-o", "minutes=60", "-o", "labels.rounds=2"], capsys
    )
    assert code == 0
    assert "system     H2O, 3 atoms, at 500 K" in out
    assert "labels     40 (20 + 16 in rounds, 4 in the dynamics of the student) with gfn2-xtb" in out
    assert "teachers   2 models, trained for 15, 15 min in rounds 1 to 2" in out
    assert "verified   32 replicas of 50 ps (1600 ps in all)" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["start.pt", "water.xyz"]


def test_a_dry_run_says_the_charge(capsys):
    pytest.importorskip("rdkit")
    assert (
        "system     H3O, 4 atoms, charge +1, "
        in typed(["--smiles", "[OH3+]", "--init-from", "scratch", "--dry-run"], capsys)[1]
    )


def test_the_template_is_a_configuration(water, tmp_path, capsys):
    code, out, _ = typed(["--template"], capsys)
    assert code == 0
    (tmp_path / "settings.yaml").write_text(out)
    assert yaml.safe_load(out)["labels"]["budget"] == 100
    assert typed([water, "--config", "settings.yaml", "--init-from", "scratch", "--dry-run"], capsys)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["water.xyz", "--budget", "15"], "the first round has 8 labels"),
        (["water.xyz", "-o", "labels.buget=3"], "did you mean labels.budget"),
        (["missing.xyz"], "missing.xyz: no such file"),
        (["water.xyz", "--method", "b3lyp"], "unknown method 'b3lyp'"),
        (["--smiles", "CCO", "--system", "aspirin"], "give only one of structure, system and smiles"),
        ([], "no structure: give --system"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(water, tmp_path, capsys, arguments, message):
    code, _, err = typed([*arguments, "--init-from", "scratch"], capsys)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["water.xyz"]
