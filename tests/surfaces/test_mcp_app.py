"""The before/after page in headless Chromium, inside a host that speaks as MCP Apps says. Skipped without Chromium."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from upres.surfaces.mcp_app import compare_html

PATIENCE_S = 120
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
HOST = """<!doctype html><meta charset="utf-8"><body>
<iframe id="view" sandbox="allow-scripts" width="800" height="600"></iframe>
<script>
const RESULT = %s, LATER = %s, PAGE = %s, DRAWN = %s;
const view = document.getElementById("view"), heard = [];
const say = message => view.contentWindow.postMessage({jsonrpc: "2.0", ...message}, "*");
addEventListener("message", event => {
  const message = event.data;
  heard.push(message.method || "answer");
  if (message.method === "ui/initialize")
    say({id: message.id, result: {protocolVersion: message.params.protocolVersion, hostCapabilities: {},
         hostInfo: {name: "host", version: "1"}, hostContext: {theme: "dark"}}});
  if (message.method === "ui/notifications/initialized") {
    say({method: "ui/notifications/tool-input", params: {arguments: {task_id: "abc", against: "xyz"}}});
    say({method: "ui/notifications/tool-result", params: RESULT});
  }
  if (message.method === "tools/call") {
    document.title = JSON.stringify(message.params);
    say({id: message.id, result: LATER});
  }
  document.body.dataset.heard = heard.join(" ");
  if (message.method === "ui/notifications/size-changed") {
    document.body.dataset.sizes = (document.body.dataset.sizes || "") + message.params.height + " ";
    if (document.body.dataset.sizes.split(" ").length > DRAWN)
      requestAnimationFrame(() => requestAnimationFrame(() => fetch("/done")));
  }
});
view.srcdoc = PAGE;
</script><img src="/hold">"""  # the document is not loaded, and the browser waits, until the host has seen enough
# what a user would do, put at the end of the page itself: the host may not reach into a sandboxed frame
DRIVER = """<script>
new MutationObserver(() => {
  if (document.body.dataset.drawn !== "1") return;
  $("cut").value = 25; $("cut").dispatchEvent(new Event("input"));
  $("moment").value = 1.5; $("moment").dispatchEvent(new Event("change"));
}).observe(document.body, {attributes: true});
</script></body>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


def picture(color: tuple[int, int, int]) -> dict[str, str]:
    with io.BytesIO() as file:
        Image.new("RGB", (160, 90), color).save(file, "JPEG")
        return {"type": "image", "mimeType": "image/jpeg", "data": base64.b64encode(file.getvalue()).decode()}


def answer(at: float, *colors: tuple[int, int, int]) -> dict[str, object]:
    data = {"task_id": "abc", "model": "compact", "output_resolution": "160x90", "at_seconds": at,
            "duration_seconds": 2.0}  # fmt: skip
    return {"content": [{"type": "text", "text": "{}"}, *map(picture, colors)], "structuredContent": data}


class Hosting(BaseHTTPRequestHandler):
    page: bytes
    done: threading.Event

    def do_GET(self) -> None:
        if self.path == "/done":
            self.done.set()
        if self.path == "/hold":
            self.done.wait(PATIENCE_S)
        self.send_response(200 if self.path == "/" else 204)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        if self.path == "/":
            self.wfile.write(self.page)

    def log_message(self, format: str, *args: object) -> None:
        pass


def shown(tmp_path: Path, page: str, answers: list[dict[str, object]], *flags: str) -> str:
    """The host's document once every answer has been drawn."""
    values = [*answers, *({} for _ in range(2 - len(answers))), page, len(answers)]
    text = HOST % tuple(json.dumps(value).replace("</", "<\\/") for value in values)
    handler = type("Handler", (Hosting,), {"page": text.encode(), "done": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", *flags,
                       f"--user-data-dir={tmp_path}/profile", f"http://127.0.0.1:{server.server_port}/"]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True,
                                  env={**os.environ, "HOME": str(tmp_path)})  # fmt: skip
        finally:
            server.shutdown()
            thread.join()
    assert handler.done.is_set(), done.stderr[-2000:]
    return done.stdout


def test_the_page_shakes_hands_shows_the_pair_and_asks_for_another_moment(tmp_path: Path) -> None:
    page = compare_html().replace("</body>", DRIVER)
    answers = [answer(0.5, (200, 0, 0), (0, 0, 200)), answer(1.5, (200, 0, 0), (0, 200, 0))]
    text = shown(tmp_path, page, answers, "--dump-dom")
    heard = re.search(r'data-heard="([^"]*)"', text)
    assert heard is not None and heard[1].startswith("ui/initialize ui/notifications/initialized ")
    assert "tools/call" in heard[1]
    title = re.search(r"<title>(.*)</title>", text)
    assert title is not None
    asked = {"task_id": "abc", "at": 1.5, "against": "xyz"}
    assert json.loads(title[1]) == {"name": "compare_task", "arguments": asked}
    sizes = re.search(r'data-sizes="([^"]*)"', text)
    assert sizes is not None and all(int(height) > 400 for height in sizes[1].split())  # 160x90 fills the width


def test_left_of_the_line_is_before_and_right_of_it_after(tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    answers = [answer(0, (200, 0, 0), (0, 0, 200))]
    shown(tmp_path, compare_html(), answers, f"--screenshot={shot}", "--window-size=900,700")
    image = Image.open(shot).convert("RGB")
    left, right = image.getpixel((200, 250)), image.getpixel((700, 250))
    assert left[0] > 150 > left[2] and right[2] > 150 > right[0]


def test_the_page_needs_no_network() -> None:
    assert not re.search(r"https?://|@import|url\(|src=\"[^\"]|<link", compare_html())
