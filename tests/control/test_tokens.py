"""Tokens of agents on other machines: what is kept of them, and when they are good no more."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from windlass.errors import ComputeTargetException
from windlassd.control.tokens import LATE_S, Holder, Tokens


def job_token(tokens: Tokens, agent: str) -> str:
    token = tokens.job_token(agent)
    assert token is not None
    return token


def test_a_token_stands_for_one_part_also_after_a_restart(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    agent = tokens.enlist("exp_1_ab.2.3", "exp_1_ab")
    job = job_token(tokens, "exp_1_ab.2.3")
    for known in (tokens, Tokens(str(tmp_path))):
        assert known.holder(agent) == Holder("exp_1_ab.2.3", "exp_1_ab", 2, 3)
        assert known.holder(job) == Holder("exp_1_ab.2.3", "exp_1_ab", 2, 3, job=True)


def test_what_is_kept_lets_nobody_in(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    secrets = [tokens.enlist("r.1.0", "r"), job_token(tokens, "r.1.0")]
    assert len(set(secrets)) == 2
    path = tmp_path / "agents.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(secret.split("_", 2)[2] in path.read_text() for secret in secrets)
    assert os.listdir(tmp_path) == ["agents.json"]


def test_another_ticket_replaces_the_first(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    first = tokens.enlist("r.1.0", "r")
    first_job = job_token(tokens, "r.1.0")
    second = tokens.enlist("r.1.0", "r")
    assert [tokens.holder(token) for token in (first, first_job)] == [None, None]
    assert tokens.holder(second) is not None


def test_a_start_that_is_told_again_leaves_the_first_script_its_token(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    tokens.enlist("r.1.0", "r")
    first, second = job_token(tokens, "r.1.0"), job_token(tokens, "r.1.0")
    assert tokens.holder(first) == tokens.holder(second) is not None


def test_those_of_a_script_end_with_its_run_and_those_of_an_agent_when_it_is_dismissed(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    agents = [tokens.enlist(f"r.1.{rank}", "r") for rank in range(2)]
    jobs = [job_token(tokens, f"r.1.{rank}") for rank in range(2)]
    other = tokens.enlist("rr.1.0", "rr")
    tokens.end_jobs("r")
    assert [tokens.holder(token) for token in jobs] == [None, None]
    assert all(tokens.holder(token) for token in (*agents, other))
    tokens.end("r.1.0")
    assert [tokens.holder(token) is None for token in (*agents, other)] == [True, False, False]
    assert Tokens(str(tmp_path)).holder(agents[0]) is None


def test_a_late_agent_is_let_in_for_a_week_and_its_script_is_not(tmp_path: Path) -> None:
    now = [1000.0]
    tokens = Tokens(str(tmp_path), lambda: now[0])
    agent = tokens.enlist("r.1.0", "r")
    job = job_token(tokens, "r.1.0")
    tokens.late("r.1.0")
    assert tokens.holder(agent) is not None
    assert (tokens.holder(job), tokens.job_token("r.1.0")) == (None, None)
    now[0] += LATE_S
    assert tokens.holder(agent) is None
    assert Tokens(str(tmp_path), lambda: now[0]).part_of("r.1.0") is None


@pytest.mark.parametrize("agent", ["r", "r.1", "other.1.0", "r.1.0.0", "r.x.0", "r.1.-1", "r.1.²", "../r.1.0"])
def test_an_agent_is_named_by_its_part(tmp_path: Path, agent: str) -> None:
    with pytest.raises(ComputeTargetException, match=r"r\.<attempt>\.<rank>"):
        Tokens(str(tmp_path)).enlist(agent, "r")


@pytest.mark.parametrize(
    "text", ["junk", "", "[]", '{"r.1.0": {}}', '{"r.1.0": 3}', json.dumps({"r.1.0": {"jobs": 1}})]
)
def test_a_damaged_file_lets_nobody_in_and_does_not_stop_the_server(tmp_path: Path, text: str) -> None:
    tokens = Tokens(str(tmp_path))
    token = tokens.enlist("r.1.0", "r")
    (tmp_path / "agents.json").write_text(text)
    again = Tokens(str(tmp_path))
    assert again.holder(token) is None
    assert again.holder(again.enlist("r.1.0", "r")) is not None


def test_what_a_server_that_was_killed_did_not_end_is_ended_at_the_next_start(tmp_path: Path) -> None:
    tokens = Tokens(str(tmp_path))
    known = {name: tokens.enlist(f"{name}.1.0", name) for name in ("goes", "over", "gone")}
    jobs = {name: job_token(tokens, f"{name}.1.0") for name in known}
    state = {("goes", 1, 0): True, ("over", 1, 0): False}
    tokens.retain(state.get)
    for found in (tokens, Tokens(str(tmp_path))):
        assert {name for name, token in known.items() if found.holder(token)} == {"goes", "over"}  # it may come late
        assert {name for name, token in jobs.items() if found.holder(token)} == {"goes"}
