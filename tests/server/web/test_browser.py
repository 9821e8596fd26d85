"""The pages in a real Chromium, driven as a reader would."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from windlass.specs.run import Reason
from windlass.specs.status import RunStatus
from windlassd.server.web.app import create_web_app
from windlassd.testing.digits_workspace import DRIVER_LOG, EPOCHS, digits_workspace, train_more
from windlassd.testing.fake_backend import FakeBackend

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@dataclass
class Screen:
    """A tab signed in to a served workspace; ``complaints`` is what its console said."""

    page: Any
    backend: FakeBackend
    run_id: str
    base: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        code = self.backend.add_code(f"code{time.monotonic_ns()}", path)
        self.page.goto(f"{self.base}/login?code={code}")
        self.page.wait_for_url(self.base + path)

    def until(self, expression: str, within_s: float = 15.0) -> None:
        """Wait until a JavaScript expression holds (Playwright's own way needs eval, which our policy forbids)."""
        ends = time.monotonic() + within_s
        while not self.page.evaluate(f"() => !!({expression})"):
            assert time.monotonic() < ends, f"never true: {expression}"
            self.page.wait_for_timeout(30)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def screen(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    backend, run_id = digits_workspace(tmp_path_factory.mktemp("runs"), time.time())
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    app = create_web_app(backend, hosts=[f"127.0.0.1:{port}"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    screen = Screen(context.new_page(), backend, run_id, f"http://127.0.0.1:{port}")
    screen.page.on("console", lambda m: screen.complaints.append(m.text) if m.type in ("error", "warning") else None)
    screen.page.on("pageerror", lambda e: screen.complaints.append(str(e)))
    yield screen
    context.close()
    server.should_exit = True
    thread.join(timeout=20)
    listener.close()
    assert not thread.is_alive()


@pytest.mark.parametrize("path", ["/runs", "/runs/{run}", "/experiments", "/models", "/queue"])
def test_no_page_has_anything_to_complain_of(screen: Screen, path: str) -> None:
    screen.open(path.format(run=screen.run_id))
    if "{run}" in path:
        screen.until("document.querySelectorAll('.chart canvas').length >= 5")
        screen.page.locator("#log-scale").check()
        screen.page.locator("#axis").select_option("time")
        screen.page.locator(".plot").first.hover()
    screen.page.wait_for_timeout(300)
    assert screen.complaints == []


def test_a_run_goes_on_before_the_readers_eyes(screen: Screen) -> None:
    screen.open(f"/runs/{screen.run_id}")
    screen.until("document.getElementById('log').innerText.includes('epoch 239')")
    screen.until("document.querySelector('.chart').textContent.includes('0.04261')")
    train_more(screen.backend, screen.run_id, EPOCHS, time.time())
    screen.backend.write(screen.run_id, "outputs/fresh.txt", b"x")
    screen.until("document.getElementById('log').innerText.includes('epoch 240')")
    screen.until("document.querySelector('.files').innerText.includes('fresh.txt')")
    screen.until("!document.querySelector('.chart').textContent.includes('0.04261')")
    screen.backend.move(screen.run_id, RunStatus.COMPLETED, time.time(), Reason("completed", "All is well."))
    screen.until("document.querySelector('.verdict').innerText.includes('All is well.')")
    assert "Completed" in screen.text(".verdict") and "good" in screen.page.locator(".verdict").get_attribute("class")
    screen.until("!document.querySelector('[data-cancel]') && document.getElementById('link').textContent === ''")
    assert "Completed" in screen.page.title() and screen.complaints == []


def test_the_list_of_runs_is_live_too(screen: Screen) -> None:
    screen.open("/runs")
    row = f"document.querySelector('[data-run=\"{screen.run_id}\"]').innerText"
    screen.until(f"{row}.includes('Running')")
    screen.until("document.getElementById('link').textContent === 'Live'")
    screen.backend.move(screen.run_id, RunStatus.FAILED, time.time(), Reason("x", "Rank 1 failed first."))
    screen.until(f"{row}.includes('Rank 1 failed first.')")
    assert screen.complaints == []


def test_progress_bars_and_colours_look_as_in_a_terminal(screen: Screen) -> None:
    name = "azureml-logs/90_test.txt"
    lines = "one\r\ntwo \x1b[31mred\x1b[0m\x1b[2K \x1b]0;title\x07end\n"
    lines += " 0%|  |\r50%|█ |\r99%|██|\rdone\n\nlast \x1b[38;5;196m!\x1b[3"
    screen.backend.write(screen.run_id, name, lines.encode())
    screen.backend.write(screen.run_id, name, b"2m?\x1b[m", append=True)
    screen.open(f"/runs/{screen.run_id}")
    screen.until("document.querySelectorAll('#log-tabs button').length === 3")
    screen.page.get_by_role("tab", name="90_test").click()
    screen.until("document.getElementById('log').innerText.includes('last')")
    lines_shown = screen.page.evaluate("[...document.querySelectorAll('.chunk > div')].map((e) => e.textContent)")
    assert lines_shown == ["one", "two red end", "done", "", "last !?"]
    assert screen.text(".f-1") == "red" and screen.text(".f-2") == "?"
    assert screen.complaints == []


def test_nothing_in_a_log_runs_or_becomes_markup(screen: Screen) -> None:
    screen.open(f"/runs/{screen.run_id}")
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\x1b[31m<b>bold</b>\n"
    screen.backend.write(screen.run_id, DRIVER_LOG, evil.encode(), append=True)
    screen.backend.log_metric(screen.run_id, evil, 1.0, 1.0, 0)
    screen.backend.log_metric(screen.run_id, evil, 2.0, 2.0, 1)
    screen.until("document.getElementById('log').innerText.includes('<b>bold</b>')")
    screen.until("[...document.querySelectorAll('.chart b')].some((e) => e.textContent.includes('onerror'))")
    assert screen.page.evaluate("document.querySelectorAll('#log img, #log script, .chart img').length") == 0
    assert "owned" not in screen.page.title() and screen.complaints == []


def test_a_long_log_keeps_its_end_and_follows_until_scrolled(screen: Screen) -> None:
    text = "".join(f"line {n}\n" for n in range(50_000))
    screen.backend.write(screen.run_id, DRIVER_LOG, text.encode(), append=True)
    screen.open(f"/runs/{screen.run_id}")
    screen.until("document.getElementById('log').textContent.includes('line 49999')")
    assert screen.page.evaluate("document.querySelectorAll('.chunk > div').length") <= 20_000
    assert "download the file" in screen.page.locator("#log").text_content()
    pane = "document.getElementById('log')"
    at_end = f"{pane}.scrollHeight - {pane}.scrollTop - {pane}.clientHeight < 30"
    screen.until(at_end)
    screen.page.evaluate("document.getElementById('log').scrollTop -= 500")
    screen.until("!document.getElementById('log-end').hidden")
    screen.backend.write(screen.run_id, DRIVER_LOG, b"later\n", append=True)
    screen.until("document.getElementById('log').textContent.includes('later')")
    assert not screen.page.evaluate(at_end)
    screen.page.locator("#log-end").click()
    screen.until(at_end)


def test_a_reader_can_cancel_after_being_asked(screen: Screen) -> None:
    screen.open(f"/runs/{screen.run_id}")
    screen.page.get_by_role("button", name="Cancel run").click()
    screen.page.get_by_role("button", name="Keep it going").click()
    screen.page.wait_for_timeout(200)
    assert screen.backend.get_run(screen.run_id).status is RunStatus.RUNNING
    screen.page.get_by_role("button", name="Cancel run").click()
    screen.page.get_by_role("button", name="Cancel the run").click()
    screen.until("document.querySelector('.verdict').innerText.includes('Cancel requested')")
    assert screen.complaints == []


def test_a_plain_form_can_cancel_without_scripts(screen: Screen, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{screen.base}/login?code={screen.backend.add_code('plain', f'/runs/{screen.run_id}')}")
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_text("Cancel requested").first.wait_for()
    context.close()


def test_a_break_is_told_and_mended_without_repeats(screen: Screen) -> None:
    screen.open(f"/runs/{screen.run_id}")
    screen.until("document.getElementById('log').innerText.includes('epoch 239')")
    screen.page.context.set_offline(True)
    screen.page.evaluate("dispatchEvent(new Event('pagehide'))")  # drops the stream as a lost connection would
    screen.backend.write(screen.run_id, DRIVER_LOG, b"said meanwhile\n", append=True)
    screen.page.context.set_offline(False)
    screen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    screen.until("document.getElementById('log').innerText.includes('said meanwhile')")
    assert screen.page.locator("#log").text_content().count("epoch 239") == 1


def test_a_hidden_tab_holds_no_stream(screen: Screen) -> None:
    screen.open(f"/runs/{screen.run_id}")
    screen.until("document.getElementById('link').textContent === 'Live'")
    screen.page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    ends = time.monotonic() + 10
    while screen.backend._watchers:
        assert time.monotonic() < ends
        screen.page.wait_for_timeout(20)


def test_a_link_on_another_site_signs_in(screen: Screen) -> None:
    """A notebook's page is another site: the strict cookie must still hold for the page that follows."""
    code = screen.backend.add_code("from-notebook", f"/runs/{screen.run_id}")
    link = f"<a href='{screen.base}/login?code={code}'>Web View</a>".encode()

    class Notebook(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(link)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Notebook) as notebook:
        threading.Thread(target=notebook.serve_forever, daemon=True).start()
        screen.page.goto(f"http://localhost:{notebook.server_port}/")
        screen.page.get_by_text("Web View").click()
        screen.page.wait_for_url(f"{screen.base}/runs/{screen.run_id}")
        screen.until("document.querySelector('.verdict')")
        notebook.shutdown()


def test_curves_of_many_points_are_drawn_soon(screen: Screen) -> None:
    for name in range(20):
        for step in range(4000):
            screen.backend._points[screen.run_id].setdefault(f"m{name:02d}", []).append(
                (1.0 + step, step, step % 97 / 97)
            )
    screen.open(f"/runs/{screen.run_id}")
    screen.until("document.querySelectorAll('.chart').length >= 25")
    screen.page.locator(".chart").last.scroll_into_view_if_needed()
    screen.until("[...document.querySelectorAll('.chart')].at(-1).querySelector('canvas')", within_s=5)
    assert screen.complaints == []


@pytest.mark.parametrize("width", [320, 390, 760, 1081])
def test_no_page_is_wider_than_its_screen(screen: Screen, width: int) -> None:
    screen.page.set_viewport_size({"width": width, "height": 800})
    for path in (f"/runs/{screen.run_id}", "/runs", "/queue", "/models"):
        screen.open(path)
        wide = screen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
