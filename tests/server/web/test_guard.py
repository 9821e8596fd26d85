from __future__ import annotations

import logging

import pytest

from windlass.specs.status import RunStatus
from windlassd.server.web.guard import POLICY

from .conftest import HOST, Browser, Site

PAGES = ("/", "/runs", "/runs.json", "/experiments", "/models", "/queue", "/runs/stream", "/nothing", "/favicon.ico")


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_sees_nothing_but_how_to_get_in(site: Site, path: str) -> None:
    answer = site.stranger().get(path)
    assert answer.status_code == 401
    assert "windlass open" in answer.text and "windlass run show ID --web" in answer.text
    assert "digits" not in answer.text


@pytest.mark.parametrize("path", ["", ".json", "/metrics", "/stream", "/files/outputs/data.json"])
def test_a_stranger_learns_nothing_of_a_run(site: Site, path: str) -> None:
    there, absent = (site.stranger().get(f"/runs/{run}{path}") for run in (site.run_id, "nope"))
    assert there.status_code == absent.status_code == 401
    assert there.text == absent.text


def test_a_stranger_cannot_cancel(site: Site) -> None:
    assert site.stranger().post(f"/runs/{site.run_id}/cancel").status_code == 401
    assert site.backend.get_run(site.run_id).status is RunStatus.RUNNING


def test_a_stranger_who_asks_for_json_gets_the_same_as_json(site: Site) -> None:
    answer = site.stranger().get("/runs", headers={"Accept": "application/json"})
    assert answer.json()["error"]["code"] == "not_signed_in"


@pytest.mark.parametrize(
    "host", ["evil.example:8123", "127.0.0.1", "127.0.0.1:8124", "", "127.0.0.1:8123.evil.example"]
)
def test_another_host_name_is_refused_even_with_a_session(browser: Browser, host: str) -> None:
    answer = browser.get("/runs", headers={"Host": host})
    assert answer.status_code == 421
    assert "digits" not in answer.text


def test_another_host_name_cannot_use_up_a_code(site: Site) -> None:
    code = site.backend.add_code("once")
    assert site.stranger().get(f"/login?code={code}", headers={"Host": "evil.example"}).status_code == 421
    assert site.stranger().get(f"/login?code={code}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9000"},  # the same site for cookies, another server
        {"Origin": "http://localhost:8123"},
        {"Origin": "https://127.0.0.1:8123"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_another_page_cannot_cancel(site: Site, browser: Browser, headers: dict[str, str]) -> None:
    answer = browser.post(f"/runs/{site.run_id}/cancel", headers=headers)
    assert answer.status_code == 403
    assert site.backend.get_run(site.run_id).status is RunStatus.RUNNING


@pytest.mark.parametrize("headers", [{"Origin": f"http://{HOST}"}, {"Origin": "null", "Sec-Fetch-Site": "same-origin"}])
def test_our_page_can_cancel(site: Site, browser: Browser, headers: dict[str, str]) -> None:
    answer = browser.post(f"/runs/{site.run_id}/cancel", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{site.run_id}")
    assert site.backend.get_run(site.run_id).status is RunStatus.CANCEL_REQUESTED


@pytest.mark.parametrize("path", ["/runs", "/runs/nope", "/models.json", "/nothing", "/login?code=x"])
def test_every_answer_carries_the_policy(browser: Browser, path: str) -> None:
    headers = browser.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY and "default-src 'none'" in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


def test_a_page_that_breaks_says_so_and_is_logged(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(site.backend, "models", lambda: 1 // 0)
    with caplog.at_level(logging.ERROR):
        answer = browser.get("/models")
    assert answer.status_code == 500 and "windlass server status" in answer.text
    assert "ZeroDivisionError" not in answer.text and "ZeroDivisionError" in caplog.text
    assert answer.headers["content-security-policy"] == POLICY
