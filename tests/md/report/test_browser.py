"""The report in a real browser without a screen."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from piwsl.md.analysis.comparison import compare_run
from piwsl.md.analysis.reference import Reference
from piwsl.md.analysis.run_directory import read_run
from piwsl.md.report import write_analysis
from tests import run_directories as runs

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on the PATH")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    reference = Reference.of_frames("mine", runs.ETHANOL.numbers, runs.shaking(600, seed=50), 50.0 * np.arange(600))
    comparison = compare_run(read_run(runs.write_run(path / "run", runs.shaking(500, seed=1))), reference)
    return write_analysis(comparison, path / "analysis")["report.html"]


def screenshot(report, path, *options):
    picture = path / "picture.png"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={path}"]
    command += ["--enable-logging=stderr", *options, f"--screenshot={picture}", report.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert picture.is_file(), found.stderr[-1000:]
    assert "CONSOLE" not in found.stderr, found.stderr
    return np.asarray(Image.open(picture).convert("RGB")).astype(int)


def near(pixels, colour):
    return int((np.abs(pixels - np.array(colour)).max(axis=-1) < 12).sum())


@pytest.mark.parametrize(
    ("mode", "ground", "run", "reference"),
    [
        (1, (255, 255, 255), (0, 114, 178), (200, 207, 214)),
        (0, (20, 23, 27), (108, 188, 240), (65, 74, 83)),
    ],
    ids=["light", "dark"],
)
def test_figures_are_there_in_the_colours_of_the_page(report, tmp_path, mode, ground, run, reference):
    pixels = screenshot(report, tmp_path, "--window-size=1100,1600", f"--blink-settings=preferredColorScheme={mode}")
    assert near(pixels, ground) > 0.5 * pixels.shape[0] * pixels.shape[1]
    assert near(pixels, run) > 2000
    assert near(pixels, reference) > 20_000


def test_in_a_narrow_window_nothing_sticks_out(report, tmp_path):
    pixels = screenshot(report, tmp_path, "--window-size=500,3000", "--blink-settings=preferredColorScheme=1")
    assert near(pixels, (0, 114, 178)) > 1000
    assert near(pixels[:, -10:], (255, 255, 255)) == pixels.shape[0] * 10  # the margin stays free
