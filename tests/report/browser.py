"""A headless Chromium over WebDriver (W3C), for pages as people see them."""

import base64
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def missing() -> str:
    """What this machine lacks for it; "" when it has everything."""
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(lacking)} on this machine" if lacking else ""


KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Right": "\ue014", "End": "\ue010"}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
_SILENT: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Browser:
    """One window. Methods are named after what a person does."""

    def __init__(self, address: str, session: str) -> None:
        self._base = f"{address}/session/{session}"

    def _call(self, path: str, body: dict[str, Any]) -> Any:
        answer = requests.post(f"{self._base}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()["value"]

    def open(self, page: Path, width: int, height: int) -> None:
        self._call("goog/cdp/execute", _cdp("Emulation.setDeviceMetricsOverride", _metrics(width, height)))
        self._call("url", {"url": page.as_uri()})

    def run(self, script: str) -> Any:
        return self._call("execute/sync", {"script": script, "args": []})

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`, as a person sets it in their system."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("goog/cdp/execute", _cdp("Emulation.setEmulatedMedia", {"features": features}))

    def press(self, key: str) -> None:
        strokes = [{"type": kind, "value": KEYS.get(key, key)} for kind in ("keyDown", "keyUp")]
        self._call("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def picture(self) -> bytes:
        """The whole page as PNG."""
        wanted = {"format": "png", "captureBeyondViewport": True}
        found = self._call("goog/cdp/execute", _cdp("Page.captureScreenshot", wanted))
        return base64.b64decode(found["data"])

    def print_pdf(self) -> bytes:
        return base64.b64decode(self._call("print", {}))

    def log(self) -> list[str]:
        """What the page complained of: refused requests, script errors."""
        return [entry["message"] for entry in self._call("se/log", {"type": "browser"})]


def _metrics(width: int, height: int) -> dict[str, Any]:
    return {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}


def _cdp(command: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"cmd": command, "params": parameters}


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as driver,
    ):
        try:
            _wait(address)
            options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            body = {"capabilities": {"alwaysMatch": wanted}}
            answer = requests.post(f"{address}/session", json=body, timeout=60)
            answer.raise_for_status()
            session = answer.json()["value"]["sessionId"]
            yield Browser(address, session)
            requests.delete(f"{address}/session/{session}", timeout=30)
        finally:
            driver.terminate()


def _wait(address: str) -> None:
    for _ in range(200):
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{address}/status", timeout=5).json()["value"]["ready"]:
                return
        time.sleep(0.05)
    raise TimeoutError("chromedriver does not answer")
