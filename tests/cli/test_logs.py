"""``windlass logs``."""

from __future__ import annotations

from cli.conftest import Cli, History


def test_logs_are_the_result_and_their_names_are_talk(cli: Cli, history: History) -> None:
    said = cli("logs", history.bad)
    assert said.code == 0 and said.out.endswith("about to fail\n") and "==>" not in said.out
    only = cli("logs", history.good, "--file", "70_driver_log.txt")
    assert (only.out, only.err) == ("trained\n", "")


def test_any_kept_file_can_be_read(cli: Cli, history: History) -> None:
    assert cli("logs", history.good, "--file", "outputs/model/weights.txt").out == "12345"


def test_a_file_that_is_not_there_is_named_with_near_matches(cli: Cli, history: History) -> None:
    said = cli("logs", history.good, "--file", "outputs/model/weight.txt")
    assert said.code == 1 and "outputs/model/weights.txt" in said.err


def test_following_an_ended_run_exits_by_its_outcome(cli: Cli, history: History) -> None:
    good = cli("logs", "-f", history.good, "--file", "70_driver_log.txt")
    assert (good.code, good.out) == (0, "trained\n") and "Completed in " in good.err
    bad = cli("logs", "-f", history.bad)
    assert bad.code == 1 and "about to fail\n" in bad.out and "exited with code 3" in bad.err


def test_only_logs_can_be_followed(cli: Cli, history: History) -> None:
    said = cli("logs", "-f", history.good, "--file", "outputs/model/weights.txt")
    assert said.code == 1 and "Leave out -f" in said.err


def test_following_a_file_that_an_ended_run_lacks_is_refused(cli: Cli, history: History) -> None:
    said = cli("logs", "-f", history.good, "--file", "70_driver_lag.txt")
    assert said.code == 1 and "70_driver_log.txt" in said.err
