"""Progress of long work where nobody, a terminal or a notebook shows it."""

import sys
from types import SimpleNamespace

import pytest

from piwsl.runs.progress import Step, bar_html, counting, display, duration, is_watched, reporting


def test_a_callback_is_returned_as_it_is():
    with counting(print, "frames") as report:
        assert report is print
    with reporting(print, "frames", Step) as report:
        assert report is print


def test_nothing_is_shown_unless_a_person_watches(capfd, monkeypatch):
    monkeypatch.delattr(sys, "ps1", raising=False)
    assert not is_watched()
    for progress in (None, False):
        with counting(progress, "frames") as report:
            assert report is None
    assert capfd.readouterr() == ("", "")


def test_lines_come_at_each_tenth_on_stderr(capfd, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with counting(True, "frames") as report:
        for done in range(41):
            report(done, 40)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [f"frames {done}/40" for done in range(4, 41, 4)]


def test_resumed_work_starts_in_the_middle_and_ends_with_a_line():
    lines: list[str] = []
    with display("step", lines.append) as shown:
        for done in (55, 62, 100):
            shown.update(Step(done, 100, "10 steps/s"))
        shown.update(Step(0, 3))  # the next member of an ensemble
        shown.update(Step(3, 3))
    assert lines == ["step 62/100  10 steps/s", "step 100/100  10 steps/s", "step 3/3"]


def test_a_terminal_shows_a_bar_on_stderr(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with counting(True, "frames") as report:
        report(1, 2)
        report(2, 2)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "frames 2/2" in captured.err


@pytest.fixture
def notebook(monkeypatch):
    """A kernel whose outputs are kept."""
    pictures: list[str] = []
    handle = SimpleNamespace(update=lambda html: pictures.append(html))

    def show(html, display_id):
        pictures.append(html)
        return handle

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=show))
    return pictures


def test_a_notebook_shows_a_bar_without_being_asked(notebook, capfd):
    with counting(None, "frames") as report:
        for done in range(1, 101):
            report(done, 100)
    assert 2 <= len(notebook) < 50  # drawn a few times a second, and at the end
    assert 'value="100" max="100"' in notebook[-1]
    assert "frames 100/100" in notebook[-1]
    assert capfd.readouterr() == ("", "")


def test_the_bar_of_a_notebook_escapes_text():
    assert "&lt;b&gt;" in bar_html("step", Step(1, 2, "<b>"))
    assert "value" not in bar_html("", Step(1, None, "1.0 MB"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (3723, "1:02:03"), (float("inf"), "?"), (float("nan"), "?")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
