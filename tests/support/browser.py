"""Chromium without a screen, spoken to through a pipe in the DevTools protocol."""

import base64
import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# WebGL without a graphics card; its driver reports how slow it is as a warning of the page.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--hide-scrollbars",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
)
NOISE = ("GPU stall due to ReadPixels",)


class Browser:
    """One process; each page is a fresh tab, which is closed when the next one opens."""

    def __init__(self, directory: Path) -> None:
        assert BROWSER is not None
        down, self._write = os.pipe()
        self._read, up = os.pipe()
        high = [os.dup2(one, 50 + place, inheritable=True) for place, one in enumerate((down, up))]
        command = [BROWSER, *OPTIONS, f"--user-data-dir={directory}", "--remote-debugging-pipe"]

        def give_pipes() -> None:
            os.dup2(high[0], 3, inheritable=True)
            os.dup2(high[1], 4, inheritable=True)

        self._process = subprocess.Popen(
            command, preexec_fn=give_pipes, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for one in (down, up, *high):
            os.close(one)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self._page: Page | None = None

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events in between are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return dict(found["result"])
            self.events.append(found)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser is gone"
            self._rest += piece
        line, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(line))

    def open(self, file: Path, **options: Any) -> "Page":
        """Open a file in a new tab, in place of the one before."""
        if self._page is not None:
            self._page.close()
        self.events.clear()
        self._page = Page(self, file, **options)
        return self._page

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._write)
        os.close(self._read)


class Page:
    """A tab that shows a file."""

    def __init__(
        self, browser: Browser, file: Path, width: int = 1100, height: int = 900, dark: bool = False,
        script: bool = True, mobile: bool = False, media: str = "screen", first: str = "", still: bool = False,
    ) -> None:  # fmt: skip
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height, mobile)
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        named = [{"name": name, "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=named)
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        if first:  # runs before the scripts of the page
            self.call("Page.addScriptToEvaluateOnNewDocument", source=first)
        self.call("Page.navigate", url=file.resolve().as_uri())
        self._wait_for_load()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def resize(self, width: int, height: int = 900, mobile: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def drawn(self) -> None:
        """Until the page has been laid out and drawn again."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def _wait_for_load(self) -> None:
        deadline = time.monotonic() + 60
        while not any(self._is(event, "Page.loadEventFired") for event in self._browser.events):
            assert time.monotonic() < deadline, "the page does not load"
            self.call("Page.getFrameTree")
            time.sleep(0.02)

    def _is(self, event: dict[str, Any], method: str) -> bool:
        return event.get("sessionId") == self._session and event.get("method") == method

    def evaluate(self, expression: str) -> Any:
        """Value of an expression of JavaScript; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; {self.complaints()}"
            time.sleep(0.05)

    def settle(self) -> None:
        """Until the 3-D view stands, or says that it cannot."""
        self.wait("!!document.getElementById('view').dataset.state")

    def complaints(self) -> list[str]:
        """What the console holds, uncaught errors included."""
        texts = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                texts.append(json.dumps(event["params"]))
        return [text for text in texts if not any(noise in text for noise in NOISE)]

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        events = [event for event in self._browser.events if self._is(event, "Network.requestWillBeSent")]
        return [event["params"]["request"]["url"] for event in events]

    def picture(self, selector: str | None = None) -> np.ndarray:
        """(height, width, 3) of the whole page, or of the first element that a selector finds."""
        if selector is None:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            return self._picture(0, 0, size["width"], size["height"])
        x, y, width, height = self.boxes(selector)[0]
        return self._picture(x, y, width, height)

    def boxes(self, selector: str) -> list[list[int]]:
        """Left, top, width and height of the elements that a selector finds, in pixels of the page."""
        found = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.getBoundingClientRect())"
            ".map((b) => [b.x + scrollX, b.y + scrollY, b.width, b.height].map(Math.round))"
        )
        return [list(box) for box in found]

    def _picture(self, x: float, y: float, width: float, height: float) -> np.ndarray:
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)

    def pdf(self) -> bytes:
        """As it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
