"""A name for users without an entry in the password file, such as those of containers started with a bare number."""

import getpass
import os


def ensure_user_name() -> None:
    """Set the variable USER where the user has no name: PyTorch asks for one when it is imported."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["USER"] = str(os.getuid()) if hasattr(os, "getuid") else "user"
