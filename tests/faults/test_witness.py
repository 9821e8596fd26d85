"""A run without any fault: what every other test of this folder compares with. The quick one, in the default run."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.evidence import Witnessed
from windlassd.testing.harness import Workspace


def test_what_the_script_did_is_in_the_record(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 300); diary.say(50); diary.keep(5)").submit()
    run.check(status="Completed", reason="completed")


def test_the_comparison_sees_a_loss(workspace: Workspace, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, "diary.log(run, 30); diary.say(5)").submit()
    run.check(status="Completed")
    run.diary.log(_Nobody(), 1)
    with pytest.raises(AssertionError, match="30 points, the script logged 31 to 31"):
        run.check_points()


class _Nobody:
    def log(self, name: str, value: object) -> None:
        pass
