"""Names for outputs, made from names of inputs."""

import re


def source_name(source: str) -> str:
    """A word for a data source (file, directory, pattern, named data set), for the name of a file or directory."""
    name = source.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"\W+", "-", name).strip("-") or "unnamed"
