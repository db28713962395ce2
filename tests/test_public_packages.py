import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ["piwsl.data", "piwsl.losses", "piwsl.models"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_is_listed_and_documented(package):
    module = import_module(package)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert not callable(value) or value.__doc__, f"{package}.{name} has no docstring"
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009 (an import would fail earlier)


def test_packages_load_nothing_before_it_is_used():
    program = f"import sys, {', '.join(PACKAGES)}; assert not {{'torch', 'ase', 'pydantic'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
