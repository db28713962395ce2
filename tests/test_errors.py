import pytest

from piwsl.errors import reason_of


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (RuntimeError(f"\n first line\n{'x' * 300}"), "first line"),
        (RuntimeError(), "RuntimeError"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory"),
        (OSError("unable to open file"), "unable to open file"),
        (KeyError("checksum"), "no entry 'checksum'"),
        (KeyError("Unknown functional pbee"), "Unknown functional pbee"),
    ],
)
def test_an_exception_of_another_library_is_one_line(error, text):
    assert reason_of(error) == text
