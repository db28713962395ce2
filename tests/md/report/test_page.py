import re
from html.parser import HTMLParser

import numpy as np
import pytest

from piwsl.md.analysis.comparison import compare_run
from piwsl.md.analysis.reference import Reference
from piwsl.md.analysis.run_directory import read_run
from piwsl.md.report.page import render_page
from tests import run_directories as runs


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


def render(path, positions, **options):
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(600, seed=50), 50.0 * np.arange(600))
    comparison = compare_run(read_run(runs.write_run(path, positions, **options)), reference)
    return comparison, render_page(comparison)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return render(tmp_path_factory.mktemp("good") / "run", runs.shaking(500, seed=1))


def test_needs_nothing_but_itself(good):
    _, text = good
    page = Page(text)
    assert not {"script", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), target
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(text) < 3_000_000


def test_ids_are_unique_and_references_lead_somewhere(good):
    _, text = good
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= set(ids)


def test_every_colour_of_the_page_is_defined_for_light_dark_and_print(good):
    _, text = good
    used = set(re.findall(r"var\(--([a-z]+)\)", text))
    blocks = re.findall(r":root \{(.*?)\}", text, flags=re.DOTALL)
    assert len(blocks) == 3
    for name in used - {"serif", "sans", "mono"}:
        assert all(f"--{name}:" in block for block in blocks), name
    assert "#0101" not in text  # no stand-in of the drawing is left


def test_verdict_comes_before_figures_and_numbers(good):
    _, text = good
    places = [text.index(part) for part in ("Stable for all 25 ps.", "<figure>", "<table>", "How the run was made")]
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
    assert "over the 60 frames before the first broken one" in words


def test_broken_from_the_start_has_no_structure_to_show(tmp_path):
    _, text = render(tmp_path / "run", 3 * runs.shaking(20, seed=3))
    assert text.count("<figure>") == 1
    assert "Not stable: broken in the first frame" in text


def test_one_frame_without_energies(tmp_path):
    path = tmp_path / "run"
    runs.write_run(path, runs.shaking(1, seed=4))
    (path / "thermo.csv").unlink()
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(600, seed=50), None)
    words = Page(render_page(compare_run(read_run(path), reference))).text
    assert "Too few independent samples to tell" in words
    assert "not known" in words


def test_names_of_others_are_no_markup(tmp_path):
    system = {"name": "<script>alert(1)</script>", "species": runs.ETHANOL.numbers.tolist()}
    _, text = render(tmp_path / "run", runs.shaking(30, seed=5), system=system, command="<b>&")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;&amp;" in text
