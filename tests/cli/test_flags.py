import pytest

from piwsl.cli.flags import with_flags


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("choose another `output`", "choose another --output"),
        ("continue it with `restart=True`, or", "continue it with --restart, or"),
        ('use `target="openmm"` or `hydrogen_mass=3`', "use --target openmm or --hydrogen-mass 3"),
        ("see `piwsl data fetch --list`", "see `piwsl data fetch --list`"),
    ],
)
def test_python_arguments_become_options(message, shown):
    assert with_flags(message) == shown
