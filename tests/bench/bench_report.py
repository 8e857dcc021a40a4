"""The report in a browser: `python tests/bench/bench_report.py OUT [--run RUN] [--compare OTHER]`.

Without --run, of a made-up run of 100,000 steps and 500 rounds. Prints the size of the page, the time to write it and
to load it in Chromium (apt-get install chromium), requests and console errors, and what the arrow keys do to its
sliders; leaves screenshots in OUT, light and dark, 1280 and 390 px wide. Needs tornado, which comes with ipykernel.
"""

import argparse
import asyncio
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

import tornado.websocket

from gqst.report import page

ROOT = pathlib.Path(__file__).parent.parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--run", type=pathlib.Path)
    parser.add_argument("--compare", type=pathlib.Path)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    run = flags.run
    if run is None:
        sys.path.insert(0, str(ROOT))
        from tests.report.conftest import made_up_run

        run = made_up_run(
            pathlib.Path(tempfile.mkdtemp()) / "long", steps=100_000, round_every=200, log_every=1, side=384, rows=8
        )
    started = time.monotonic()
    path = page.write(run, other=flags.compare, path=flags.out / "report.html")
    print(f"written in {time.monotonic() - started:.2f} s, {path.stat().st_size / 1e6:.2f} MB")
    asyncio.run(look(path.resolve(), flags.out))


async def look(path: pathlib.Path, out: pathlib.Path) -> None:
    profile = tempfile.mkdtemp()
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [*command, "--remote-debugging-port=0", "about:blank"], stderr=subprocess.PIPE, text=True
    ) as it:
        try:
            assert it.stderr is not None
            line = next(line for line in it.stderr if "DevTools listening" in line)
            port = line.rsplit(":", 1)[1].split("/")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                address = next(t for t in json.load(answer) if t["type"] == "page")["webSocketDebuggerUrl"]
            browser = Browser(await tornado.websocket.websocket_connect(address, max_message_size=2**28))
            await walk(browser, path, out)
        finally:
            it.kill()


async def walk(browser: "Browser", path: pathlib.Path, out: pathlib.Path) -> None:
    for domain in ("Page", "Runtime", "Log", "Network"):
        await browser.call(f"{domain}.enable")
    await browser.call("Page.navigate", url=path.as_uri())
    while await browser.value("document.readyState + performance.timing.loadEventEnd.toString()[0]") != "complete1":
        await asyncio.sleep(0.05)
    millis = await browser.value("performance.timing.loadEventEnd - performance.timing.navigationStart")
    print(f"loaded in {millis / 1000:.2f} s")
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            await browser.call("Emulation.setEmulatedMedia", features=features)
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            await browser.call("Emulation.setDeviceMetricsOverride", **size)
            await asyncio.sleep(0.3)
            wide = await browser.value("document.documentElement.scrollWidth")
            shot = await browser.call("Page.captureScreenshot", captureBeyondViewport=True)
            (out / f"{width}_{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
            print(f"{width} px, {scheme}: content {wide} px wide")
    for selector, shown in (
        (".split", "document.querySelector('.compare').style.getPropertyValue('--split')"),
        (".round", "document.querySelector('.viewer output').textContent"),
    ):
        await browser.value(f"document.querySelector('{selector}').focus()")
        before = await browser.value(shown)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "ArrowLeft", "code": "ArrowLeft", "windowsVirtualKeyCode": 37}
            await browser.call("Input.dispatchKeyEvent", type=kind, **key)
        print(f"{selector} by arrow key: {before!r} to {await browser.value(shown)!r}")
    requests = [url for url in browser.requests if not url.startswith(("data:", path.as_uri()))]
    print(f"requests: {requests}; errors: {browser.errors}")


class Browser:
    """Calls to a page over Chromium's protocol, and what it has said meanwhile."""

    def __init__(self, socket: tornado.websocket.WebSocketClientConnection):
        self._socket, self._number = socket, 0
        self.requests: list[str] = []
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(await self._socket.read_message() or "{}")
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return message["result"]
            told = message.get("params", {})
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
                self.errors.append(json.dumps(told)[:300])

    async def value(self, expression: str) -> Any:
        return (await self.call("Runtime.evaluate", expression=expression))["result"].get("value")


if __name__ == "__main__":
    main()
