"""Codes that let the owner's browser in, once."""

from __future__ import annotations

import time

import pytest

from windlassd.control.logins import LIFETIME_S, LoginCodes


def test_a_code_works_once() -> None:
    logins = LoginCodes()
    code = logins.issue("/runs/exp_1_a?tab=files")
    assert logins.redeem(code) == "/runs/exp_1_a?tab=files"
    assert logins.redeem(code) is None


def test_codes_are_not_guessable_and_others_are_refused() -> None:
    logins = LoginCodes()
    codes = {logins.issue("/runs") for _ in range(100)}
    assert len(codes) == 100 and min(map(len, codes)) >= 32
    assert [logins.redeem(junk) for junk in ("", "x", next(iter(codes))[:-1])] == [None] * 3


@pytest.mark.parametrize(("seconds", "lives"), [(LIFETIME_S - 1, True), (LIFETIME_S + 1, False)])
def test_a_code_lives_a_minute(monkeypatch: pytest.MonkeyPatch, seconds: float, lives: bool) -> None:
    logins, now = LoginCodes(), time.monotonic()
    code = logins.issue("/runs")
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
    assert (logins.redeem(code) == "/runs") is lives


def test_old_codes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    logins, now = LoginCodes(), time.monotonic()
    for _ in range(10):
        logins.issue("/runs")
    monkeypatch.setattr(time, "monotonic", lambda: now + LIFETIME_S + 1)
    logins.issue("/runs")
    assert len(logins._codes) == 1


@pytest.mark.parametrize(
    "path",
    ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "\\\\elsewhere.example", "",
     "javascript:alert(1)", "/\t/elsewhere.example", "/\n/elsewhere.example", "runs", "/runs\r\nSet-Cookie: a=b"],
)  # fmt: skip
def test_no_code_leads_elsewhere(path: str) -> None:
    logins = LoginCodes()
    assert logins.redeem(logins.issue(path)) == "/runs"
