from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from windlass.errors import ServiceUnavailable, UserErrorException

from .conftest import Browser, Site


def test_a_code_opens_a_session_and_leads_to_its_page(site: Site) -> None:
    client = site.stranger()
    answer = client.get("/login", params={"code": site.backend.add_code("abc", f"/runs/{site.run_id}")})
    assert answer.status_code == 200
    assert f'content="0; url=/runs/{site.run_id}"' in answer.text
    assert client.get(f"/runs/{site.run_id}").status_code == 200


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(site: Site) -> None:
    answer = site.stranger().get("/login", params={"code": site.backend.add_code("abc")})
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    assert cookie["httponly"] and cookie["samesite"] == "strict" and cookie["path"] == "/" and not cookie["domain"]
    assert site.sessions.holds(cookie.value)


@pytest.mark.parametrize("query", ["", "?code=", "?code=guess"])
def test_without_a_good_code_there_is_no_session(site: Site, query: str) -> None:
    answer = site.stranger().get("/login" + query)
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert "windlass open" in answer.text


def test_a_code_works_once(site: Site) -> None:
    code = site.backend.add_code("abc")
    assert site.stranger().get(f"/login?code={code}").status_code == 200
    assert site.stranger().get(f"/login?code={code}").status_code == 401


@pytest.mark.parametrize("path", ["//evil.example/", "https://evil.example/", "/\\evil.example", "", "/runs\nx"])
def test_a_code_leads_nowhere_else(site: Site, path: str) -> None:
    answer = site.stranger().get("/login", params={"code": site.backend.add_code("abc", path)})
    assert 'content="0; url=/runs"' in answer.text and "evil" not in answer.text


def test_a_session_of_another_server_is_none(site: Site) -> None:
    client = site.stranger()
    client.cookies.set("windlass_session_8123", "made-up")
    assert client.get("/runs").status_code == 401


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/runs/nope", 404, "user_error"),
        ("/runs/nope.json", 404, "user_error"),
        ("/nothing/here", 404, "user_error"),
        ("/runs?status=Runing", 400, "bad_filter"),
        ("/runs?before=nope", 404, "user_error"),
        ("/runs/{run}/metrics?points=x", 400, "user_error"),
        ("/runs/{run}/stream?offsets=[1]", 400, "bad_offsets"),
        ("/runs/{run}/cancel", 405, "user_error"),
    ],
)
def test_all_errors_have_one_shape(site: Site, browser: Browser, path: str, status: int, code: str) -> None:
    path = path.format(run=site.run_id)
    answer = browser.get(path, headers={"Accept": "application/json"})
    assert answer.status_code == status
    assert answer.json().keys() == {"error"} and answer.json()["error"].keys() == {"code", "message"}
    assert answer.json()["error"]["code"] == code
    if not path.endswith(".json"):
        page = browser.get(path, headers={"Accept": "text/html"})
        assert page.status_code == status and page.headers["content-type"].startswith("text/html")


def test_an_error_keeps_the_message_a_user_can_act_on(browser: Browser) -> None:
    assert "Did you mean &#39;Running&#39;?" in browser.get("/runs?status=Runing").text


@pytest.mark.parametrize(
    ("error", "status"),
    [(UserErrorException("It has ended.", error_code="conflict"), 409), (ServiceUnavailable("The disk is full."), 503)],
)
def test_what_the_backend_raises_has_its_status(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(site.backend, "models", fail)
    answer = browser.get("/models.json")
    assert answer.status_code == status and answer.json()["error"]["message"] == str(error)
