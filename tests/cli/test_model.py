"""``windlass model``."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Cli
from windlass import Workspace


def test_models_are_listed_shown_and_downloaded(cli: Cli, project: Path) -> None:
    (project / "train.py").write_text(
        "import os; os.makedirs('outputs/m/sub')\n"
        "open('outputs/m/a.txt', 'w').write('aa'); open('outputs/m/sub/b.txt', 'w').write('b')\n"
    )
    assert "No model" in cli("model").err
    record = cli("submit", "train.py", "--json").json
    run = Workspace.from_config().get_run(record["id"])
    for _ in range(2):
        run.register_model("digits", "outputs/m", tags={"kind": "base"})
    assert [row.split()[:2] for row in cli("model").out.splitlines()[1:]] == [["digits", "2"], ["digits", "1"]]
    assert len(cli("model", "list", "--run", "last", "--json").json["models"]) == 2
    shown = cli("model", "show", "digits:1")
    assert "digits:1" in shown.out and record["id"] in shown.out and "kind=base" in shown.out
    assert cli("model", "show", "digits", "--json").json["version"] == 2
    said = cli("model", "download", "digits", "here")
    assert said.out.splitlines() == ["here/m/a.txt", "here/m/sub/b.txt"]
    assert (project / "here" / "m" / "a.txt").read_text() == "aa"
    for name in ("digit", "digits:9"):
        absent = cli("model", "show", name)
        assert absent.code == 1 and "digits" in absent.err


def test_models_are_registered_from_files_and_deleted(cli: Cli, project: Path) -> None:
    (project / "w.bin").write_bytes(b"w")
    made = cli("model", "register", "w.bin", "--name", "files", "--tag", "kind=base", "--framework", "Onnx")
    assert (made.code, made.out) == (0, "files:1\n")
    entry = cli("model", "show", "files", "--json").json
    assert (entry["tags"], entry["framework"], entry["run_id"]) == ({"kind": "base"}, "Onnx", None)
    assert cli("model", "register", "nope", "--name", "files").code == 1
    assert cli("model", "delete", "files").code == 2 and cli("model", "delete", "files:1").out == "files:1: deleted\n"
    assert cli("model", "show", "files").code == 1
