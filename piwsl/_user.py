"""A user name for processes whose user ID has no entry in the password file, as in many containers."""

import getpass
import os


def ensure_user_name() -> None:
    """Set the environment variable USER if the user has no name, because importing PyTorch requires one."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["USER"] = str(os.getuid()) if hasattr(os, "getuid") else "user"
