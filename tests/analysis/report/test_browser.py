"""The report in a real browser without a screen."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from piwsl.analysis.analyze import analyze
from piwsl.analysis.groups import RunGroup
from piwsl.analysis.reference import Reference
from piwsl.analysis.report import write_analysis
from piwsl.trajectories.frame_source import FrameSource
from tests.analysis.test_crystal import NUMBERS, shaking
from tests.support import made_up
from tests.support import run_directories as runs
from tests.support.browser import BROWSER, Browser
from tests.support.layout import faults

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")]
LIGHT = {"ground": (255, 255, 255), "run": (0, 114, 178), "reference": (200, 207, 214)}
DARK = {"ground": (20, 23, 27), "run": (108, 188, 240), "reference": (65, 74, 83)}
RED = (255, 13, 13)  # of oxygen


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One run that breaks near its end."""
    path = tmp_path_factory.mktemp("report")
    positions = runs.shaking(500, seed=1)
    positions[450:, 8] += 2
    curves = (made_up.torsion("C-C-O-H"), made_up.torsion("H-C-C-H"), made_up.spectrum())
    group = RunGroup("run", (made_up.comparison(path / "run", positions, curves),))
    return write_analysis([group], path / "analysis")["report.html"]


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    path = tmp_path_factory.mktemp("several")
    members = tuple(made_up.comparison(path / f"r{n}", runs.shaking(100, seed=n)) for n in (7, 8))
    groups = [
        made_up.single(path / "a-run-with-quite-a-long-name-of-its-directory", 1),
        *(made_up.single(path / f"run-{seed}", seed) for seed in (2, 3, 4)),
        RunGroup("replicas", members, (made_up.survival(),)),
    ]
    return write_analysis(groups, path / "analysis")["report.html"]


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    """Two runs of rutile."""
    path = tmp_path_factory.mktemp("crystal")
    positions, cells = shaking(runs, 600, 100)
    source = FrameSource.of_array(NUMBERS, positions, 50.0 * np.arange(600), cells)
    for seed in (1, 2):
        positions, cells = shaking(runs, 300, seed)
        thermo = runs.thermal_rows(300, len(NUMBERS), 500.0, seed=7)
        system = {"name": "rutile", "species": NUMBERS.tolist()}
        runs.write_run(path / f"run-{seed}", positions, NUMBERS, thermo, cells=cells, system=system)
    reference = Reference("rutile", source)
    return {
        names: analyze(
            [path / name for name in names], reference=reference, output=path / f"analysis-{len(names)}"
        ).files["report.html"]
        for names in (("run-1",), ("run-1", "run-2"))
    }


def near(pixels, color, within=12):
    return int((np.abs(pixels - np.array(color)).max(axis=-1) < within).sum())


def reds(pixels):
    """Where oxygen is, however it is lit."""
    return (pixels[..., 0] > 90) & (pixels[..., 1:].max(axis=-1) < 0.35 * pixels[..., 0])


def drawn(stage):
    """Where the view is not its ground."""
    return np.abs(stage - stage[5, 5]).max(axis=-1) > 12


@pytest.mark.parametrize(("dark", "colors"), [(False, LIGHT), (True, DARK)], ids=["light", "dark"])
def test_opens_without_a_complaint_in_the_colors_of_the_page(browser, report, dark, colors):
    page = browser.open(report, dark=dark)
    page.settle()
    assert page.complaints() == []
    assert page.requests() == [report.resolve().as_uri()]  # and nothing else
    pixels = page.picture()
    assert near(pixels, colors["ground"]) > 0.5 * pixels.shape[0] * pixels.shape[1]
    boxes = page.boxes("main > figure:not(#view)")
    assert len(boxes) == 6
    for left, top, width, height in boxes:
        figure = pixels[top : top + height, left : left + width]
        assert near(figure, colors["run"]) > 300
        assert near(figure, colors["ground"]) > 50_000


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_molecule_is_drawn_in_three_dimensions(browser, report, dark):
    page = browser.open(report, dark=dark)
    page.settle()
    assert page.evaluate("document.getElementById('view').dataset.state") == "ready"
    pixels = page.picture("#view .stage")
    ground = (28, 33, 38) if dark else (245, 247, 249)
    assert near(pixels, ground, 4) > 0.6 * pixels.shape[0] * pixels.shape[1]
    assert reds(pixels).sum() > 500
    # Shaded as a ball is: many reds, not one.
    assert len(np.unique(pixels[reds(pixels)][:, 0])) > 20
    still = page.evaluate("getComputedStyle(document.querySelector('#view .still')).display")
    assert still == "none"


def test_molecule_can_be_turned(browser, report):
    page = browser.open(report)
    page.settle()
    page.evaluate("document.querySelector('#view .stage').scrollIntoView({block: 'center', behavior: 'instant'})")
    start = page.evaluate("scrollY")
    before = page.picture("#view .stage")
    x, y = page.evaluate(
        "(() => { const b = document.querySelector('#view .stage').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    for kind, shift in (("mousePressed", 0), ("mouseMoved", 60), ("mouseMoved", 120), ("mouseReleased", 120)):
        page.call(
            "Input.dispatchMouseEvent", type=kind, x=x + shift, y=y, button="left", buttons=1, clickCount=1
        )  # fmt: skip
    assert (np.abs(page.picture("#view .stage") - before).max(axis=-1) > 40).sum() > 1000
    # The wheel scrolls the page and leaves the molecule alone.
    turned = page.picture("#view .stage")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=200)
    page.wait(f"scrollY > {start + 50}")
    assert (np.abs(page.picture("#view .stage") - turned).max(axis=-1) > 40).sum() < 100
    assert page.complaints() == []


def test_frames_are_those_of_the_run_and_play(browser, report):
    page = browser.open(report)
    page.settle()
    time = "document.querySelector('#view .time').textContent"
    assert page.evaluate(time) == "0.05\N{NO-BREAK SPACE}ps"
    move = (
        "(() => {{ const s = document.querySelector('#view .slider'); s.value = {};"
        "s.dispatchEvent(new Event('input')); }})()"
    )
    first = page.picture("#view .stage")
    page.evaluate(move.format(100))
    later = page.picture("#view .stage")
    assert 0.5 < drawn(later).sum() / drawn(first).sum() < 2  # as large as it was
    np.testing.assert_allclose(*(np.ptp(np.nonzero(drawn(one)), axis=1) for one in (later, first)), rtol=0.3)
    assert (np.abs(later - first).max(axis=-1) > 40).sum() > 200
    page.evaluate(move.format(199))
    assert page.evaluate(time) == "25.00\N{NO-BREAK SPACE}ps, no longer physical"
    page.evaluate(move.format(0))
    assert (np.abs(page.picture("#view .stage") - first).max(axis=-1) > 40).sum() == 0
    page.evaluate("document.querySelector('#view .play').click()")
    page.wait("Number(document.querySelector('#view .slider').value) > 3")
    page.evaluate("document.querySelector('#view .play').click()")
    assert page.evaluate("document.querySelector('#view .play').textContent") == "Play"
    assert page.complaints() == []


def test_frames_arrive_as_they_were_packed(browser, report):
    """What the script unpacks, against the run: it draws them in hundredths of an angstrom."""
    page = browser.open(report)
    page.settle()
    atoms = page.evaluate(
        "(async () => { const scene = JSON.parse(document.getElementById('scenes').textContent)[0];"
        "const bytes = Uint8Array.from(atob(scene.positions), (c) => c.charCodeAt(0));"
        "const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));"
        "return Array.from(new Int16Array(await new Response(stream).arrayBuffer())).slice(0, 27); })()"
    )
    drawn = np.array(atoms).reshape(9, 3) / 100
    positions = runs.shaking(500, seed=1)[0]
    expected, found = (np.linalg.norm(one[:, None] - one, axis=-1) for one in (positions, drawn))
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize(
    "missing",
    [
        "HTMLCanvasElement.prototype.getContext = () => null;",
        "delete window.DecompressionStream;",
        "let calls = 0; OffscreenCanvas.prototype.getContext = null;"
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function(...a) { return calls++ ? null : get.apply(this, a); };",
    ],
    ids=["WebGL", "DecompressionStream", "more than one context"],
)
def test_in_an_old_browser_the_still_picture_stays(browser, report, missing):
    page = browser.open(report, first=missing)
    page.settle()
    assert page.evaluate("document.getElementById('view').dataset.state") == "failed"
    shown = "getComputedStyle(document.querySelector('#view .{}')).display"
    assert page.evaluate(shown.format("still")) == "block"
    assert page.evaluate(shown.format("stage")) == page.evaluate(shown.format("bar")) == "none"
    assert page.evaluate(shown.format("failed")) == "block"
    assert not any("exceptionThrown" in text for text in page.complaints())
    assert near(page.picture("#view .frame"), RED) > 500


def test_a_script_that_is_not_ours_does_not_run(browser, report, tmp_path):
    other = tmp_path / "report.html"
    other.write_text(report.read_text().replace('"use strict";', '"use strict"; window.foreign = true;'))
    page = browser.open(other)
    assert page.evaluate("window.foreign") is None
    assert page.evaluate("getComputedStyle(document.querySelector('#view .still')).display") == "block"


def test_without_javascript_everything_else_is_there(browser, report):
    page = browser.open(report, script=False)
    assert page.complaints() == []
    assert near(page.picture("#view"), RED) > 500
    pixels = page.picture()
    assert near(pixels, LIGHT["run"]) > 5000
    assert near(pixels, LIGHT["reference"]) > 20_000


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_sticks_out_on_a_phone(browser, report, side_by_side, width):
    for file in (report, side_by_side) if width == 320 else (report,):
        page = browser.open(file, width=width, height=844, mobile=True)
        page.settle()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("innerWidth") == width
        hidden = "[...document.querySelectorAll('.wide')].every((one) => one.offsetWidth === 0)"
        assert page.evaluate(hidden)
        outside = (
            "[...document.querySelectorAll('main *:not(svg *):not(.scroll *)')]"
            f".filter((one) => one.getBoundingClientRect().right > {width} + 0.5)"
            ".map((one) => one.className || one.tagName)"
        )
        assert [name for name in page.evaluate(outside) if name not in ("scroll", "THEAD")] == []
        stage = page.picture("#view .stage")
        assert reds(stage).sum() > 200
        for side in (stage[:, 3:6], stage[:, -6:-3]):  # the molecule fits in
            assert near(side, side[4, 0]) == 3 * stage.shape[0]


def test_several_runs(browser, side_by_side):
    page = browser.open(side_by_side)
    page.settle()
    assert page.complaints() == []
    assert page.evaluate("document.documentElement.scrollWidth") == 1100
    before = page.picture("#view .stage")
    page.evaluate(
        "(() => { const c = document.querySelector('#view .choice'); c.selectedIndex = 2;"
        "c.dispatchEvent(new Event('change')); })()"
    )
    page.wait("document.querySelector('#view .slider').max === '199'")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert (np.abs(page.picture("#view .stage") - before).max(axis=-1) > 40).sum() > 200
    pixels = page.picture()
    for color in ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0)):
        assert near(pixels, color) > 200, color
    assert page.complaints() == []


def test_print_has_the_still_picture_and_no_buttons(browser, report):
    page = browser.open(report, media="print")
    page.settle()
    shown = "getComputedStyle(document.querySelector('#view .{}')).display"
    assert page.evaluate(shown.format("still")) == "block"
    assert page.evaluate(shown.format("stage")) == "none"
    assert page.evaluate(shown.format("bar")) == "none"
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("widths", [(360, 480), (768, 2000), (1024, 1440)], ids=["phone", "desktop", "between"])
def test_everything_can_be_read_at_any_width(browser, report, side_by_side, crystal, widths):
    mobile = widths[0] < 600
    for file in (report, side_by_side, *crystal.values()):
        page = browser.open(file, width=widths[0], mobile=mobile)
        page.settle()
        for width in widths:
            page.resize(width, mobile=mobile)
            page.drawn()
            assert page.evaluate("document.documentElement.clientWidth") == width
            assert faults(page) == [], (file, width)


def test_everything_can_be_read_in_print(browser, report, side_by_side, crystal):
    for file in (report, side_by_side, *crystal.values()):
        page = browser.open(file, width=660, media="print")
        page.settle()
        for width in (660, 794):  # between the margins of A4, and the whole sheet
            page.resize(width)
            page.drawn()
            assert faults(page) == [], (file, width)


def test_the_measurement_finds_what_is_wrong(browser, crystal):
    page = browser.open(crystal["run-1",], width=768)
    page.settle()
    page.evaluate("document.head.append(Object.assign(document.createElement('style'), {id: 'wrong'}))")
    for style, fault in (
        ("main { width: 1200px }", "the page is"),
        (".scroll { overflow: hidden }", "out of reach"),
        (".scroll { overflow: clip } table { width: 1500px !important }", "out of reach"),
        ("td { max-width: 2rem; overflow: hidden }", "text wider than its cell"),
        ("svg text { font-size: 40px !important }", "cut at the edge"),
        ("svg text { font-size: 30px !important }", "overlap"),
        ("footer { margin-left: -3rem }", "outside the window"),
    ):
        page.evaluate(f"document.getElementById('wrong').textContent = '{style}'")
        assert any(text.startswith(fault) for text in faults(page)), faults(page)


def test_the_view_is_never_blank(browser, report):
    """The still picture is there from the beginning, until the frame of the 3-D view is drawn."""
    slow = (
        "const buffer = Response.prototype.arrayBuffer; Response.prototype.arrayBuffer = async function () {"
        "await new Promise((done) => setTimeout(done, 400)); return buffer.call(this); };"
    )
    page = browser.open(report, first=slow)
    state = "document.getElementById('view').dataset.state"
    frame = page.boxes("#view .frame")
    pictures = 0
    while not page.evaluate(state):
        assert reds(page.picture("#view .frame")).sum() > 500
        pictures += 1
    assert pictures
    assert page.evaluate(state) == "ready"
    assert reds(page.picture("#view .frame")).sum() > 500
    assert page.boxes("#view .frame") == frame  # nothing moves when it is replaced


def test_the_view_is_drawn_and_still_where_motion_is_reduced(browser, report):
    page = browser.open(report, still=True)
    page.settle()
    assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
    before = page.picture("#view .stage")
    assert reds(before).sum() > 500
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert (page.picture("#view .stage") == before).all()


def test_a_screenshot_from_the_command_line_shows_the_molecule(report, tmp_path):
    for name, options in (("plain", ()), ("without WebGL", ("--disable-gpu", "--disable-3d-apis"))):
        file = tmp_path / f"{name}.png"
        command = [BROWSER, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / name}", *options]
        command += [f"--screenshot={file}", "--window-size=1000,3000", report.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        assert reds(np.asarray(Image.open(file).convert("RGB")).astype(int)).sum() > 500, name
