import base64
import hashlib
import json
import re
import tempfile
import zlib
from html.parser import HTMLParser

import pytest
from markupsafe import Markup

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.reference import Reference
from piwsl.analysis.report import page
from piwsl.analysis.report.page import allowed_scripts, library, license_text, render_page, script
from piwsl.analysis.report.plots import plots_of
from piwsl.analysis.report.style import pictures_of
from piwsl.analysis.run_directory import read_run
from piwsl.analysis.statistics.results import Measurement
from tests.support import made_up
from tests.support import run_directories as runs

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Collects what the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(*groups, **limits):
    return render_page(groups, [pictures_of(plot) for plot in plots_of(groups)], **limits)


def render(path, positions, curves=(), **options):
    comparison = made_up.comparison(path, positions, curves, **options)
    return comparison, page_of(RunGroup("run", (comparison,)))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    curves = (made_up.torsion("C-C-O-H"), made_up.torsion("H-C-C-H"), made_up.spectrum(1703.0))
    return render(tmp_path_factory.mktemp("good") / "run", runs.shaking(500, seed=1), curves)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    path = tmp_path_factory.mktemp("several")
    broken = runs.shaking(200, seed=3)
    broken[60:, 8] += 4
    members = (
        made_up.comparison(path / "r0", runs.shaking(200, seed=2), seed=20),
        made_up.comparison(path / "r1", broken, seed=21),
    )
    one = made_up.single(path / "baseline", 1, (made_up.spectrum(1703.0),))
    return (one, RunGroup("ours", members, (made_up.survival(),)))


def test_needs_nothing_but_itself(good, several):
    for text in (good[1], page_of(*several)):
        parsed = Page(text)
        assert not {"iframe", "object"} & {tag for tag, _ in parsed.tags}
        for tag, attributes in parsed.tags:
            for name in ("src", "href", "xlink:href"):
                target = attributes.get(name) or "#"
                # Links lead to the files beside the page; nothing is loaded from anywhere.
                assert target.startswith(("#", "data:")) or (tag == "a" and ":" not in target), target
        style = text[text.index("<style>") : text.index("</style>")]
        assert not re.search(r"@import|url\(", style)
        assert len(text) < 1_500_000


def test_runs_its_own_scripts_and_no_others(good):
    _, text = good
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src {allowed_scripts()}" in policy.replace("&#39;", "'")
    assert "unsafe-eval" not in policy
    kinds = [attributes.get("type") for tag, attributes in Page(text).tags if tag == "script"]
    assert kinds == ["application/json", "text/plain", None]
    assert text.count(library()) == 1
    assert "</script" not in script()


def test_license_of_the_viewer_goes_with_it(good):
    words = Page(good[1]).text
    assert "Copyright (c) 2014, University of Pittsburgh and contributors" in words
    for name in ("GLmol", "three.js Authors", "jQuery", "pako", "UPNG.js", "zlib license"):
        assert name in license_text()
    assert "3Dmol.js 2.5.5, under the BSD 3-clause license" in words
    # The file is build/3Dmol-min.js of the npm package 3dmol 2.5.5, unchanged.
    unpacked = zlib.decompress(base64.b64decode(library()))
    assert hashlib.sha256(unpacked).hexdigest() == "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"


def test_ids_are_unique_and_references_lead_somewhere(good):
    _, text = good
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    text = text[: text.index('<script type="text/plain"')]
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= set(ids)


def test_every_color_of_the_page_is_defined_for_light_dark_and_print(good):
    _, text = good
    used = set(re.findall(r"var\(--([a-z]+)\)", text))
    blocks = re.findall(r":root \{(.*?)\}", text, flags=re.DOTALL)
    assert len(blocks) == 3
    for name in used - {"serif", "sans", "mono"}:
        assert all(f"--{name}:" in block for block in blocks), name
    assert {"run", "reference", "outline", "ink", "muted", "grid"} <= used
    assert "#0101" not in text  # no stand-in of the drawing is left


def test_verdict_comes_before_figures_and_numbers(good):
    _, text = good
    places = [text.index(part) for part in ("Stable for all 25 ps.", "<figure>", "<table", "How the run was made")]
    assert places == sorted(places)


def test_every_number_is_in_the_table(good):
    comparison, text = good
    words = Page(text).text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-").replace("\xa0", " ")
    for row in comparison.observables:
        assert row.name in words
        for found in (row.run, row.reference, row.difference and row.difference.measured):
            if found is not None:
                assert found.number in words, row.name


def test_how_the_run_was_made(good):
    words = Page(good[1]).text
    for part in (
        "piwsl md --system ethanol --steps 1000",
        "0123456789abcdef" * 4,
        "TorchForce",
        "torch 2.12.1",
        "Seed 3",
    ):
        assert part in words
    assert "None" not in words


def test_unstable_run(tmp_path):
    positions = runs.shaking(100, seed=2)
    positions[60:, 8] += 4
    _, text = render(tmp_path / "run", positions)
    words = Page(text).text
    assert "Not stable: broken at 3.05 ps of 5 ps; the C\N{EN DASH}H bond of atoms" in words
    assert 'class="verdict unstable"' in text
    assert "over the 60 frames before the first broken frame" in words


def test_broken_from_the_start_has_no_structure_to_show(tmp_path):
    _, text = render(tmp_path / "run", 3 * runs.shaking(20, seed=3))
    assert text.count("<figure>") == 1  # of the energies
    assert "Not stable: broken in the first frame" in text


def test_one_frame_without_energies(tmp_path):
    path = tmp_path / "run"
    runs.write_run(path, runs.shaking(1, seed=4))
    (path / "thermo.csv").unlink()
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(600, seed=50), None)
    words = Page(page_of(RunGroup("run", (compare_run(read_run(path), reference),)))).text
    assert "Too few independent samples to decide" in words
    assert "not known" in words


def test_names_of_others_are_no_markup(tmp_path):
    system = {"name": "<script>alert(1)</script>", "species": runs.ETHANOL.numbers.tolist()}
    _, text = render(tmp_path / "run", runs.shaking(30, seed=5), system=system, command="<b>&")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "\\u003cscript>alert" in text  # among the frames
    assert "&lt;b&gt;&amp;" in text


def test_numbers_read_from_curves_and_figures_of_any_curve(good):
    _, text = good
    words = Page(text).text
    assert "Torsion profiles" in words
    assert re.search(
        r"Vibrational spectrum highest peak 1700\.00 ± 0\.50 1/cm 1703\.0 ± 3\.0 1/cm", words.replace("\xa0", " ")
    )
    for name in ("h_of_r", "torsion", "spectrum"):
        assert f'href="figures/{name}.png"' in text
        assert f'href="figures/{name}.svg"' in text


def test_several_runs_side_by_side(several):
    text = page_of(*several)
    words = Page(text).text.replace("\xa0", " ").replace("\N{MINUS SIGN}", "-")
    assert "baseline and ours" in words
    assert "Stable for all 25 ps." in words
    assert "1 of 2 replicas stable; the first to break did so at 3.05 ps." in words
    for group in several:
        for row in group.rows:
            shown = page.difference_html(row.difference, row.threshold) if row.run is None else row.run.number
            assert Markup(shown).striptags().replace("\xa0", " ").replace("\N{MINUS SIGN}", "-") in words, row.key
    assert "ours: structure is compared over the 60 frames before the first broken frame." in words
    assert "Seed 20; 21" in words
    assert text.count('class="mark differs"') >= 1
    places = [text.index(part) for part in ("replicas stable", "<figure", "<table", "How the runs were made")]
    assert places == sorted(places)


def test_side_by_side_ids_are_unique(several):
    text = page_of(*several)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert text.count("<option>") == 2


def test_replicas_alone_are_one_column(several):
    text = page_of(several[1])
    words = Page(text).text
    assert "All numbers" in words
    assert "Survival" in words
    assert "<option>" not in text


def test_frames_of_all_runs_share_what_there_is_room_for(several):
    text = page_of(*several, coordinates=3 * 9 * 30)
    scenes = json.loads(text.split('id="scenes">')[1].split("</script>")[0])
    assert [len(scene["times"]) for scene in scenes] == [15, 15]
    assert [scene["name"] for scene in scenes] == ["baseline", "ours/r1"]  # of replicas the one that broke


@pytest.mark.parametrize(
    ("value", "uncertainty", "threshold", "text"),
    [
        (-2.33143e-07, None, 0.0001, "0.00000 K"),
        (0.1766666, None, 0.32, "0.18 K"),
        (-0.1766666, 2e-17, 0.32, "\N{MINUS SIGN}0.18 K"),
        (0.1766666, 0.01, 0.32, "0.177\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.010 K"),
        (0.1766666, None, None, "0.176667 K"),
        (12.3, None, 124.0, "12.3 K"),
    ],
)
def test_a_difference_without_an_error_has_the_digits_of_its_limit(value, uncertainty, threshold, text):
    measured = Measurement(value, uncertainty, "K", 9)
    assert Markup(page.difference_html(measured, threshold)).striptags() == text
    assert "0.09°" in Markup(page.measurement_html(Measurement(0.09, None, "degree", 9))).striptags()


def test_names_of_ensembles_and_chains_of_atoms():
    names = ("nve", "nvt", "nvt-langevin", "nvt-nose-hoover", "nvt-csvr")
    assert [page.ensemble_text(name) for name in names] == [
        "NVE", "NVT", "NVT (Langevin)", "NVT (Nosé\N{EN DASH}Hoover)", "NVT (CSVR)"
    ]  # fmt: skip
    assert page.name_text("Ti-O-Ti angle of C0-C1-O3") == "Ti-O-Ti angle of C0-C1-O3".replace("-", "\N{EN DASH}")
    assert page.name_text("run-1 is md-aspirin") == "run-1 is md-aspirin"


def test_a_run_from_python_has_a_title_and_no_temporary_path(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tmp_path / "tmpk3j_d81x"
    system = {"name": "", "formula": "C2H6O", "species": runs.ETHANOL.numbers.tolist()}
    model = {"path": str(tmp_path / "tmpabcdefgh" / "model.pt"), "sha256": "", "info": {}}
    _, text = render(path, runs.shaking(60, seed=1), system=system, command="-c", model=model)
    assert "<h1>C<sub>2</sub>H<sub>6</sub>O</h1>" in text
    assert "<title>C2H6O: molecular dynamics compared with mine</title>" in text
    words = Page(text).text
    assert "tmpk3j_d81x" not in text
    assert "tmpabcdefgh" not in text
    assert "Model model.pt" in words
    assert "Command" not in words


def test_a_temperature_that_changes_is_shown_as_it_was_given(tmp_path):
    comparison = made_up.comparison(tmp_path / "run", runs.shaking(60, seed=1), temperature_K="300:500")
    assert dict(page.how_made(comparison))["Ensemble"] == "NVT, 300:500 K"
    assert comparison["temperature"].target is None
