"""A headless Chromium, driven over a pipe: pages, scripts, pictures.

Commands and answers are JSON, each with a zero byte at its end: the browser reads file 3 and writes file 4 (the pipe of
the Chrome DevTools Protocol).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT_S = 120.0
RENUMBER = "import os, sys; a, b, *c = sys.argv[1:]; os.dup2(int(a), 3); os.dup2(int(b), 4); os.execvp(c[0], c)"
"""A program that duplicates two open files to the numbers 3 and 4, and then replaces itself by the browser."""


def find_browser() -> str | None:
    """Return the path of the browser program, or None if none is installed."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """A page in a running browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = to_browser, from_browser
        self._number, self._held = 0, b""
        self.requested: list[str] = []
        """Addresses that the page requested."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Send a command to the page, and return the result."""
        return self._call(method, self._session, **params)

    def size(self, width: int, height: int) -> None:
        """Set the size of the window, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def open(self, address: str) -> None:
        """Open a page, and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def value(self, script: str) -> Any:
        """Run a script in the page, and return its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until a script returns true."""
        end = time.monotonic() + TIMEOUT_S
        while self.value(script) is not True:
            assert time.monotonic() < end, f"{script} must become true"
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page to a file."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        os.write(
            self._out, json.dumps(command if session is None else {**command, "sessionId": session}).encode() + b"\0"
        )
        while (message := self._read()).get("id") != self._number:
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        assert "error" not in message, message
        return message["result"]

    def _read(self) -> Any:
        while b"\0" not in self._held:
            assert select.select([self._in], [], [], TIMEOUT_S)[0], "the browser does not answer"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._held += more
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def browser(program: str, folder: Path) -> Iterator[Browser]:
    """Run a browser whose profile is in ``folder``. The browser's processes are killed at the end of the block."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={folder}", "--remote-debugging-pipe"]
    child = subprocess.Popen(
        [sys.executable, "-c", RENUMBER, str(theirs_in), str(theirs_out), *command],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        os.close(ours_out)
        os.close(ours_in)
