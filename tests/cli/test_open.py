"""``windlass open``."""

from __future__ import annotations

import webbrowser

import pytest

from cli.conftest import Cli, History


class Browser:
    name = "firefox"

    def __init__(self) -> None:
        self.opened: list[str] = []

    def open(self, url: str) -> bool:
        self.opened.append(url)
        return True


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    made = Browser()
    monkeypatch.setattr(webbrowser, "get", lambda: made)
    return made


def test_a_browser_is_sent_to_the_run_with_a_code(cli: Cli, history: History, browser: Browser) -> None:
    for words in (["open", history.good], ["run", "show", history.good, "--web"]):
        said = cli(*words)
        assert (said.code, said.out) == (0, "") and f"/runs/{history.good}" in said.err
        assert "/login?code=" in browser.opened[-1] and "code=" not in said.err
    assert len(set(browser.opened)) == 2, "a code is for one use"


def test_print_opens_nothing(cli: Cli, history: History, browser: Browser) -> None:
    said = cli("open", "--print")
    assert said.code == 0 and said.out.startswith("http://127.0.0.1:") and "/login?code=" in said.out
    assert browser.opened == [] and "once" in said.err


def test_where_there_is_no_browser_the_address_is_printed(
    cli: Cli, history: History, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.name = "/usr/bin/w3m"
    assert "/login?code=" in cli("open").out and browser.opened == []

    def none() -> Browser:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert "/login?code=" in cli("open", "last").out
