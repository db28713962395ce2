"""A user number without an entry in the password file."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, pwd
def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
import piwsl
import torch._dynamo
print(os.environ["USER"])
"""


@pytest.mark.slow
def test_a_user_without_a_name_has_the_number_as_name():
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(os.getuid())
