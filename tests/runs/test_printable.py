"""Names from files are shown and written without effect on terminals and spreadsheets."""

import csv
import io
import logging

import pytest

from piwsl.cli.logs import echoing
from piwsl.errors import DataError, printable, reason_of
from piwsl.runs.files import csv_text
from piwsl.runs.provenance import log_to_file


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ethanol, 水, é\nnext\tline", "ethanol, 水, é\nnext\tline"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("\x07\x00\x9b", r"\x07\x00\x9b"),
        ("txt.\u202eexe", r"txt.\u202eexe"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_become_escapes(text, shown):
    assert printable(text) == shown
    assert str(DataError(text)) == shown.replace("\n", " ")  # an error has one line
    assert printable(reason_of(ValueError("x\x1b[2J"))) == r"x\x1b[2J"


def test_logs_and_terminals_get_no_control_characters(tmp_path):
    logger, lines = logging.getLogger("piwsl.test_printable"), []
    with echoing(logger.name, lambda record: lines.append(record.getMessage())), log_to_file(logger, tmp_path / "log"):
        logger.info("read %s", "a\x1b[31m.xyz")
    assert lines == [r"read a\x1b[31m.xyz"]
    assert "\x1b" not in (tmp_path / "log").read_text()


def test_no_cell_of_a_table_is_a_formula():
    text = csv_text(["=name", "value"], [["=cmd|' /C calc'!A0", "-0.5"], ["@x", -0.5], ["-a", "+1e5"], ["\x1bb", None]])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["'=name", "value"]
    assert rows[1:] == [["'=cmd|' /C calc'!A0", "-0.5"], ["'@x", "-0.5"], ["'-a", "+1e5"], [r"\x1bb", ""]]
