"""report_check: opens reports in headless Chromium, light and dark, wide and narrow, and says what is wrong.

No stage of the pipeline. Wrong are: an error of the console, a request that leaves the page, a page wider than its
window, a table that does not sort or filter, a network that says nothing under the pointer. Screenshots and a PDF go to
`build/report/`. `python -m stages.report_check FILE...`; without Chromium (Debian: `apt-get install chromium`) one line
says so and nothing is checked.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from netformer.errors import InputError
from stages import run

OUT = Path("build/report")
DEFAULT = Path("reports/evaluate/report.html")
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
WAIT = 120  # seconds for an answer, on a machine that has other work
PROBE = """(() => {
  const wrong = [], root = document.documentElement;
  if (root.scrollWidth > innerWidth + 1) wrong.push(`page is ${root.scrollWidth} wide, window ${innerWidth}`);
  for (const board of document.querySelectorAll(".board")) {
    const body = board.querySelector("tbody"), before = body.rows.length;
    const heads = [...board.querySelectorAll("thead th:not(.t)")].filter(h => h.offsetWidth);
    if (heads.length) {
      heads[0].firstChild.click();
      const found = [...body.rows].map(r => parseFloat(r.cells[heads[0].cellIndex].textContent)).filter(v => v === v);
      if (found.some((v, i) => i && v > found[i - 1])) wrong.push(`${board.id}: does not sort`);
    }
    const filter = board.querySelector("[data-filter]");
    if (filter && filter.options.length > 2) {
      filter.selectedIndex = 1; filter.dispatchEvent(new Event("input", { bubbles: true }));
      const left = [...body.rows].filter(row => !row.hidden).length;
      if (!left || left === before) wrong.push(`${board.id}: does not filter, ${left} of ${before}`);
      filter.selectedIndex = 0; filter.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }
  for (const form of document.querySelectorAll("form")) {
    const [a, b] = form.querySelectorAll("[data-above]");
    if (!b) continue;
    a.selectedIndex = 1; b.selectedIndex = 2; a.dispatchEvent(new Event("input", { bubbles: true }));
    const rows = [...form.parentElement.querySelectorAll("tbody tr")].filter(row => !row.hidden);
    const number = (row, i) => parseFloat(row.cells[i].textContent);
    if (rows.some(row => number(row, a.value) <= number(row, b.value))) wrong.push("'is ahead of' does not hold");
    a.selectedIndex = b.selectedIndex = 0; a.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const paper = () => getComputedStyle(document.body).backgroundColor, before = paper();
  document.getElementById("theme").click();
  if (paper() === before) wrong.push("light / dark does nothing");
  document.getElementById("theme").click();
  if (paper() !== before) wrong.push("light / dark does not come back");
  scrollTo(0, 0);
  return wrong;
})()"""
VERTEX = """(() => {
  const vertex = document.querySelectorAll("svg.graph .vertex")[2];
  if (!vertex) return null;
  vertex.scrollIntoView({ block: "center", behavior: "instant" });
  const box = vertex.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
TIP = "document.getElementById('tip').textContent"
TOPS = "[...document.querySelectorAll('section')].map(s => s.getBoundingClientRect().top + scrollY)"


class Browser:
    """Chromium's own protocol over a pipe: no port, no library."""

    def __init__(self, program: str, profile: str) -> None:
        theirs, ours = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs[0], ours[1])]

        def connect() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command,
            preexec_fn=connect,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for fd in (*ends, theirs[0], ours[1]):
            os.close(fd)
        self.send, self.receive = os.fdopen(theirs[1], "wb", 0), os.fdopen(ours[0], "rb")
        self.count, self.session, self.rest = 0, "", b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Raises InputError for what Chromium refuses."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.send.write(json.dumps(message).encode() + b"\0")
        while True:
            found = self.read()
            if found.get("id") == self.count:
                if "error" in found:
                    raise InputError(f"{method}: {found['error']['message']}")
                return found["result"]
            self.events.append(found)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.receive.fileno(), 1 << 16)
            if not part:
                raise InputError("Chromium ended before it answered; try it by hand")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def evaluate(self, code: str) -> Any:
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True)
        if "exceptionDetails" in found:
            raise InputError(f"the page raised {found['exceptionDetails']['exception'].get('description')}")
        return found["result"].get("value")

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(WAIT)
        self.send.close()
        self.receive.close()


def complaints(events: list[dict[str, Any]], url: str) -> list[str]:
    """Errors of the console, and requests for anything but the page itself."""
    wrong = []
    for event in events:
        params, method = event.get("params", {}), event.get("method")
        if method == "Runtime.exceptionThrown":
            wrong.append(f"exception: {params['exceptionDetails']['text']}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            wrong.append(f"console: {params['entry']['text']}")
        elif method == "Network.requestWillBeSent" and params["request"]["url"] != url:
            wrong.append(f"request: {params['request']['url'][:80]}")
    return wrong


def check(browser: Browser, path: Path, out: Path) -> list[str]:
    """What is wrong with one page, after its screenshots are taken."""
    url, wrong = path.resolve().as_uri(), []
    for size, (width, height) in SIZES.items():
        for theme in ("light", "dark"):
            look = [{"name": "prefers-color-scheme", "value": theme}]
            shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "narrow"}
            browser.call("Emulation.setDeviceMetricsOverride", **shape)
            browser.call("Emulation.setEmulatedMedia", features=look)
            browser.open(url)
            name = f"{path.parent.name}_{path.stem}_{size}_{theme}"
            wrong += [f"{size}, {theme}: {text}" for text in browser.evaluate(PROBE)]
            for number, top in enumerate([0, *browser.evaluate(TOPS)]):
                clip = {"x": 0, "y": max(0, top), "width": width, "height": height * 1.3, "scale": 1}
                shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
                (out / f"{name}_{number}.png").write_bytes(base64.b64decode(shot["data"]))
            at = browser.evaluate(VERTEX)
            if at:
                browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
                wrong += [] if "sensitivity" in browser.evaluate(TIP) else [f"{size}, {theme}: a vertex says nothing"]
                shot = browser.call("Page.captureScreenshot")
                (out / f"{name}_pointer.png").write_bytes(base64.b64decode(shot["data"]))
            wrong += [f"{size}, {theme}: {text}" for text in complaints(browser.events, url)]
    pdf = browser.call("Page.printToPDF", printBackground=True)["data"]
    (out / f"{path.parent.name}_{path.stem}.pdf").write_bytes(base64.b64decode(pdf))
    return wrong


def main(root: Path = Path(), paths: list[Path] | None = None) -> None:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print("report_check: skipped, there is no Chromium here (Debian: apt-get install chromium)")
        return
    pages = paths or [Path(name) for name in sys.argv[1:]] or [root / DEFAULT]
    for page in pages:
        if not page.is_file():
            raise InputError(f"{page} does not exist; write it first: python -m stages.report")
    out = root / OUT
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(program, profile)
        try:
            found = {page: check(browser, page, out) for page in pages}
        finally:
            browser.close()
    for page, wrong in found.items():
        print(f"{page}: {len(wrong)} complaints, {page.stat().st_size / 1000:.0f} kB, screenshots in {out}/")
        for line in wrong:
            print(f"  {line}")
    if any(found.values()):
        raise InputError("reports must open without complaints")


if __name__ == "__main__":
    run(main)
