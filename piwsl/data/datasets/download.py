"""Downloads over HTTP that resume after an interruption."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import requests

from piwsl.runs.files import write_text
from piwsl.runs.json_text import json_text
from piwsl.runs.untrusted import parse_json

Progress: TypeAlias = Callable[[int, int | None], None]  # (bytes present, all bytes or None if unknown)

TIMEOUT = 30.0  # s without received data
_PIECE = 1 << 15  # bytes; an interrupted connection loses at most one piece


class BrokenDownload(Exception):
    """A file could not be downloaded from an address; the message states the reason."""


@dataclass(frozen=True)
class _Origin:
    """Origin of the bytes in a part file. The bytes are reused only if the origin is unchanged."""

    url: str
    validator: str | None  # ETag or date of the file on the server
    total: int | None


class Downloader:
    """Download one file through a part file that is kept if the connection is interrupted.

    Instances can be passed to pooch as ``downloader``. A part file is continued only if the address, length and
    validator (ETag or date) of the file have not changed. If the server cannot resume, the download starts again.

    Args:
        part: Part file. A JSON file next to it stores the origin of its bytes.
        progress: Function called with (bytes present, total bytes).
        timeout: Time without received data after which a connection counts as interrupted, s.
    """

    def __init__(self, part: Path, progress: Progress | None = None, timeout: float = TIMEOUT) -> None:
        self.part = part
        self.timeout = timeout
        self.origin_file = part.with_name(f"{part.name}.json")
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: object = None, check_only: bool = False) -> None:
        """Download ``url`` to ``output_file``.

        Raises:
            BrokenDownload: The address does not provide the file, or the connection failed without progress.
        """
        origin = self._known_origin(url)
        try:
            while not self._complete(origin):
                before = self._have()
                origin = self._fetch(url, origin)
                if origin is not None and not self._complete(origin) and self._have() <= before:
                    raise BrokenDownload(self._broken(url, origin))
        except requests.RequestException as error:
            raise BrokenDownload(_reason(url, error)) from error
        self.part.replace(output_file)
        self.origin_file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the part file."""
        self.part.unlink(missing_ok=True)
        self.origin_file.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _complete(self, origin: _Origin | None) -> bool:
        return origin is not None and origin.total is not None and self._have() == origin.total

    def _known_origin(self, url: str) -> _Origin | None:
        """Return the origin of the part file. If the origin is not ``url``, remove the part file and return None."""
        with suppress(OSError, ValueError, TypeError):
            origin = _Origin(**parse_json(self.origin_file.read_bytes()))
            if origin.url == url and self.part.exists():
                return origin
        self.discard()
        return None

    def _fetch(self, url: str, origin: _Origin | None) -> _Origin | None:
        """Download the missing bytes until the end or an interruption; return None if the download must start again."""
        have = self._have() if origin else 0
        with requests.get(url, headers=_headers(have, origin), stream=True, timeout=self.timeout) as response:
            if have and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.discard()
                return None
            _check(url, response)
            sent = _origin(url, response)
            if response.status_code == HTTPStatus.PARTIAL_CONTENT:
                if origin is None or sent.total != origin.total or _begin(response) != have:
                    self.discard()  # the file on the server has changed
                    return None
            else:  # the whole file
                have = 0
                self.part.unlink(missing_ok=True)
                write_text(self.origin_file, json_text(asdict(sent)))
            self._append(response, have, sent)
        if sent.total is None:  # without an announced length, the end of the data is the end of the file
            return _Origin(url, sent.validator, self._have())
        return sent

    def _append(self, response: requests.Response, have: int, origin: _Origin) -> None:
        with self.part.open("ab") as stream:
            try:
                for piece in response.iter_content(_PIECE):
                    stream.write(piece)
                    have += len(piece)
                    if self.progress:
                        self.progress(have, origin.total)
            except requests.RequestException:
                if origin.total is None:  # without a length, an incomplete file could not be recognized
                    self.discard()
                    raise

    def _broken(self, url: str, origin: _Origin) -> str:
        total = f" of {origin.total / 1e6:.1f}" if origin.total else ""
        present = f"{self._have() / 1e6:.1f}{total} MB"
        return f"the connection to {_host(url)} was interrupted after {present}; the next attempt resumes there"


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _headers(have: int, origin: _Origin | None) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "piwsl"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if origin is not None and origin.validator:
            headers["If-Range"] = origin.validator  # if the file has changed, the server sends the whole file
    return headers


def _begin(response: requests.Response) -> int | None:
    """Return the offset of the first byte of a partial response, from ``Content-Range: bytes 100-199/200``."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else None


def _origin(url: str, response: requests.Response) -> _Origin:
    etag = response.headers.get("ETag")
    if etag is not None and etag.startswith("W/"):
        etag = None  # a weak ETag does not guarantee equal bytes
    total: int | None = None
    if response.status_code == HTTPStatus.PARTIAL_CONTENT:
        _, _, text = response.headers.get("Content-Range", "").partition("/")
        total = int(text) if text.isdigit() else None
    elif response.headers.get("Content-Length", "").isdigit():
        total = int(response.headers["Content-Length"])
    return _Origin(url, etag or response.headers.get("Last-Modified"), total)


def _check(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise BrokenDownload(f"{_host(url)} returned {status} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise BrokenDownload(f"{_host(url)} returned a web page instead of the file")


def _reason(url: str, error: requests.RequestException) -> str:
    causes: list[Any] = [error]
    while causes[-1] is not None and len(causes) < 10:
        cause = causes[-1]
        causes.append(getattr(cause, "reason", None) or cause.__cause__ or cause.__context__ or _first(cause))
    names = {type(cause).__name__ for cause in causes}
    if "ConnectionRefusedError" in names or any("refused" in str(cause) for cause in causes):
        return f"{_host(url)} refused the connection"
    if names & {"gaierror", "NameResolutionError"}:
        return f"{_host(url)} cannot be reached: its name cannot be resolved (is the network available?)"
    if isinstance(error, requests.Timeout):
        return f"{_host(url)} did not respond"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the secure connection to {_host(url)} failed"
    return f"no connection to {_host(url)} ({type(error).__name__})"


def _first(error: BaseException) -> Any:
    return next((part for part in error.args if isinstance(part, BaseException)), None)
