"""Python arguments in messages, shown as options of the command line."""

import re

_ARGUMENT = re.compile(r"`(?P<name>[a-z][a-z_]*)(?:=(?P<value>[^`]*))?`")


def with_flags(message: str) -> str:
    """Replace Python arguments in backticks by the options of the command line of the same name.

    ``choose another `output``` becomes ``choose another --output``, ```force=True``` becomes ``--force``, and
    ```hydrogen_mass=3``` becomes ``--hydrogen-mass 3``.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match["name"].replace("_", "-"), match["value"]
        return f"--{name}" if value in (None, "True") else f"--{name} {value.strip(chr(34))}"

    return _ARGUMENT.sub(option, message)
