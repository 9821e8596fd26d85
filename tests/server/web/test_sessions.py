from __future__ import annotations

from windlassd.server.web.sessions import Sessions, cookie_name


def test_a_token_is_good_until_its_session_ends() -> None:
    now = [100.0]
    sessions = Sessions(lifetime_s=10.0, clock=lambda: now[0])
    token = sessions.open()
    now[0] = 109.9
    assert sessions.holds(token)
    now[0] = 110.0
    assert not sessions.holds(token)


def test_nothing_else_is_a_token() -> None:
    sessions = Sessions()
    token = sessions.open()
    assert not any(sessions.holds(other) for other in (None, "", token[:-1], token + "x", "\udcff"))


def test_a_closed_session_is_gone() -> None:
    sessions = Sessions()
    token = sessions.open()
    sessions.close(token)
    assert not sessions.holds(token)


def test_the_token_itself_is_kept_nowhere() -> None:
    sessions = Sessions()
    token = sessions.open()
    assert token not in repr(vars(sessions)) and len(token) >= 43  # 256 bits in base 64


def test_the_oldest_makes_room() -> None:
    sessions = Sessions(most=2)
    first, second, third = sessions.open(), sessions.open(), sessions.open()
    assert [sessions.holds(t) for t in (first, second, third)] == [False, True, True]


def test_each_server_of_a_host_has_its_own_cookie() -> None:
    assert cookie_name("127.0.0.1:8123") != cookie_name("127.0.0.1:9000")
    assert cookie_name("example") == "windlass_session"
