"""A headless Chromium that tests drive: it types, clicks, and tells what it shows, loads and complains about.

It is driven by its own protocol over two pipes (`--remote-debugging-pipe`), so that no package and no port is needed.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
_OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# The browser reads commands from descriptor 3 and writes to 4.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """A page of a browser with a profile of its own.

    Attributes:
        requested: the addresses that the page has asked for.
        complaints: what the browser's console says, such as refused scripts.
    """

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        options = [*_OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _START, str(commands), str(answers), BROWSER, *options],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._number, self._unread, self._session = 0, b"", ""
        self._loaded = 0
        self.requested: list[str] = []
        self.complaints: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._to)
        os.close(self._from)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        command |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(command).encode() + b"\0")
        while (message := self._next()).get("id") != self._number:
            pass
        assert "error" not in message, message["error"]
        return message["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._from, 2**16)
            assert part, "the browser has ended"
            self._unread += part
        content, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(content)
        self._noted(message.get("method", ""), message.get("params", {}))
        return message

    def _noted(self, event: str, told: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded += 1
        elif event == "Network.requestWillBeSent":
            self.requested.append(told["request"]["url"])
        elif event == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))

    # What a visitor does

    def open(self, address: str) -> None:
        """Load a page."""
        loaded = self._loaded
        self.ask("Page.navigate", url=address)
        self._wait(loaded)

    def type(self, selector: str, text: str) -> None:
        """Type over what an element has."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.ask("Input.insertText", text=text)

    def set(self, selector: str, value: str) -> None:
        """Give an element a value: an option of a list, or a text that no keyboard has."""
        self.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(value)}")

    def press(self, selector: str) -> None:
        """Press a button that loads the next page, and wait for that page."""
        loaded = self._loaded
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        self._wait(loaded)

    def _wait(self, loaded: int) -> None:
        while self._loaded == loaded:
            self._next()

    # What a visitor sees

    def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it promises."""
        result = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def text(self, selector: str) -> str:
        """The text of an element as it is shown."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        """Give the page a size, and a light or a dark theme."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """Write what is shown as PNG."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
