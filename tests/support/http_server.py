"""A real HTTP server in a thread, with the faults that servers have."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server gives, how, and what it was asked."""

    content: bytes = b""
    ranges: bool = True
    etag: str | None = '"first"'
    content_type: str = "application/octet-stream"
    status: int = 200
    cuts: list[int] = field(default_factory=list)  # the n-th answer ends after so many bytes
    pause: float = 0.0  # s between pieces
    announce: bool = True  # the length
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    port: int = 0

    def url(self, path="file.bin"):
        return f"http://127.0.0.1:{self.port}/{path}"


def _handler(site):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            wanted = self.headers.get("Range")
            site.asked.append(wanted)
            cut = site.cuts.pop(0) if site.cuts else None
            first, status = 0, site.status
            stale = self.headers.get("If-Range") not in (None, site.etag)
            if wanted and site.ranges and not stale and status == 200:
                first, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                if first >= len(site.content):
                    self.send_error(416)
                    return
            self.send_response(status)
            body = site.content[first:]
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{len(site.content) - 1}/{len(site.content)}")
            if site.announce:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", site.content_type)
            if site.etag:
                self.send_header("ETag", site.etag)
            self.end_headers()
            for start in range(0, len(body), 4096):
                if cut is not None and start >= cut:
                    break  # the connection ends here
                with suppress(ConnectionError):  # who asked may be gone
                    self.wfile.write(body[start : start + 4096])
                time.sleep(site.pause)

    return Handler


class Server:
    """Serves one site until its block ends."""

    def __init__(self, site):
        self.site = site
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
        self.server.daemon_threads = True
        site.port = self.server.server_address[1]

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self.site

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
