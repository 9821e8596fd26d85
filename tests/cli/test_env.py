"""``windlass env``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import COMMAND, Cli, History
from conftest import end_processes_of
from envs.conftest import Wheelhouse, only_index
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.cache import EnvironmentCache
from windlassd.envs.target import Target


@pytest.fixture(scope="module")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Wheelhouse, Path]]:
    """Packages, and a project whose server knows no others; one for all tests, which name packages of their own."""
    place = tmp_path_factory.mktemp("shop")
    (place / "project").mkdir()
    (place / "project" / "config.json").write_text('{"workspace": "ws"}')
    with pytest.MonkeyPatch.context() as patch:
        house = only_index(patch, place)
        patch.setenv("WINDLASS_HOME", str(place / "home"))
        yield house, place
    end_processes_of(place / "home")


@pytest.fixture
def shop(made_shop: tuple[Wheelhouse, Path], monkeypatch: pytest.MonkeyPatch) -> Wheelhouse:
    house, place = made_shop
    only_index(monkeypatch, place)
    monkeypatch.setenv("WINDLASS_HOME", str(place / "home"))
    monkeypatch.chdir(place / "project")
    return house


def test_environments_are_listed_and_an_unknown_one_is_refused(cli: Cli, history: History) -> None:
    said = cli("env", "--json").json
    (entry,) = said["environments"]
    assert said["total_bytes"] <= entry["bytes"] < said["max_bytes"]
    listed = cli("env")
    assert listed.out.splitlines()[1].startswith(entry["key"][:12] + "  " + entry["builder"])
    assert "of at most 50 GB" in listed.err
    for verb in ("delete", "remove", "show"):
        said = cli("env", verb, "nonsense")
        assert said.code == 1 and "'nonsense'" in said.err and "windlass env" in said.err


def test_what_is_in_an_environment_and_why_is_shown(cli: Cli, history: History) -> None:
    (entry,) = cli("env", "--json").json["environments"]
    shown = cli("env", "show", entry["key"][:6]).out
    assert entry["key"] in shown and history.good in shown and "Python" in shown
    whole = cli("env", "show", entry["key"], "--json").json
    assert Path(whole["path"], "windlass.json").exists()
    assert whole["requests"][0]["spec"]["pip_packages"] == []


def test_what_was_resolved_for_nodes_is_listed_shown_and_forgotten(
    cli: Cli, shop: Wheelhouse, made_shop: tuple[Wheelhouse, Path]
) -> None:
    shop.add("distant")
    cache = EnvironmentCache(str(made_shop[1] / "home" / "environments"))
    far = Target("linux-aarch64-glibc2.17", (("3.9.18", "/opt/python3.9"),))
    lock = cache.for_targets.resolve(EnvironmentSpec(pip_packages=("distant",)), far, lambda line: None)
    cache.close()
    listed = cli("env").out
    assert lock.key[:12] in listed and "linux-aarch64-glibc2.17" in listed
    shown = cli("env", "show", lock.key[:8]).out
    assert "built by each node for itself" in shown and "distant 1.0" in shown and "3.9.18" in shown
    refused = cli("env", "refresh", lock.key[:8])
    assert refused.code == 1 and f"windlass env delete {lock.key[:12]}" in refused.err
    assert cli("env", "delete", lock.key[:8]).code == 0
    assert lock.key[:12] not in cli("env").out
    assert cli("env", "delete", lock.key[:8]).code == 1


def test_an_environment_is_deleted_by_the_beginning_of_its_key(cli: Cli, shop: Wheelhouse) -> None:
    shop.add("shortlived")
    made = cli("env", "build", "--pip", "shortlived")
    key = made.out.strip()
    assert "is ready" in made.err
    assert cli("env", "delete", key[:6]).out == f"{key[:12]}: deleted\n"
    assert key not in cli("env").out
    assert cli("env", "build", "--pip", "shortlived").out.strip() == key
    assert cli("env", "delete", key, "--json").json == {"deleted": [key]}


def test_what_may_be_built(cli: Cli, shop: Wheelhouse) -> None:
    shop.add("tiny")
    Path("packages.txt").write_text("tiny\n")
    Path("conda.yml").write_text("name: x\ndependencies:\n  - pip:\n    - tiny\n")
    keys = {
        cli("env", "build", *words, "--json").json["key"]
        for words in (["--pip", "tiny"], ["packages.txt"], ["conda.yml"], ["--requirements", "packages.txt"])
    }
    assert len(keys) == 1, "the same packages are the same environment"
    from windlass import Environment, Workspace

    ws = Workspace.from_config()
    Environment.from_pip_requirements("mine", "packages.txt").register(ws)
    Environment.from_conda_specification("yours", "conda.yml").register(ws)
    Environment.from_pip_requirements("mine", os.devnull).register(ws)
    assert {cli("env", "build", what, "--json").json["key"] for what in ("mine:1", "yours")} == keys
    shown = cli("env", "show", keys.copy().pop(), "--json").json
    assert shown["registered"] == [{"name": "mine", "version": "1"}, {"name": "yours", "version": "1"}]
    shown = cli("env", "show", keys.pop()).out
    assert "mine:1" in shown and "yours:1" in shown and "mine:2" not in shown
    assert "tiny" in shown


@pytest.mark.parametrize("words", [[], ["mine", "--pip", "tiny"], ["train.py"]])
def test_what_cannot_be_meant_is_refused_before_anything_is_built(cli: Cli, draft: Path, words: list[str]) -> None:
    said = cli("env", "build", *words)
    assert said.code == 2 and ("say what to build" in said.err or "requirements file" in said.err)


def test_what_cannot_be_built_says_why(cli: Cli, shop: Wheelhouse) -> None:
    said = cli("env", "build", "--pip", "nosuch")
    assert said.code == 1 and said.out == "" and "'nosuch'" in said.err
    said = cli("env", "build", "unknown")
    assert said.code == 1 and "no environment 'unknown'" in said.err


def test_a_refresh_takes_what_is_new_and_says_what_changed(cli: Cli, shop: Wheelhouse) -> None:
    shop.add("moving")
    shop.add("other")
    both = ("--pip", "moving", "--pip", "other")
    old = cli("env", "build", *both).out.strip()
    assert "Nothing changed" in cli("env", "refresh", old).err
    shop.add("moving", "2.0")
    assert cli("env", "build", *both).out.strip() == old
    said = cli("env", "refresh", old[:8])
    new = said.out.splitlines()[-1]
    assert said.out.splitlines()[1].split() == ["moving", "1.0", "2.0"]
    assert new != old
    assert cli("env", "build", *both).out.strip() == new
    again = cli("env", "refresh", *both, "--json").json
    assert again == {"environments": [{"key": new, "changes": []}]}


def test_prune_spares_nothing_but_says_first_what_would_go(cli: Cli, shop: Wheelhouse) -> None:
    shop.add("pruned")
    key = cli("env", "build", "--pip", "pruned").out.strip()
    assert cli("env", "prune").code == 2
    assert cli("env", "prune", "--older-than", "soon").code == 2
    assert cli("env", "prune", "--max-size", "lots").code == 2
    assert "Nothing to delete" in cli("env", "prune", "--older-than", "1d", "--max-size", "10G").err
    planned = cli("env", "prune", "--all", "--dry-run")
    assert key[:12] in planned.out and "would go" in planned.err
    done = cli("env", "prune", "--max-size", "1K", "--json").json
    assert key in [entry["key"] for entry in done["removed"]] and done["left_bytes"] == 0


@pytest.mark.parametrize("verb", ["build", "refresh"])
def test_ctrl_c_ends_the_waiting_with_130_and_words_and_the_build_goes_on(
    cli: Cli, shop: Wheelhouse, tmp_path: Path, verb: str
) -> None:
    package = f"held-{verb}"
    hold = shop.add_held(package, tmp_path / "hold")
    waiting = subprocess.Popen(
        [*COMMAND, "env", verb, "--pip", package], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with waiting:
        hold.wait_started()
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (130, "")
    assert "the build goes on" in err and "Traceback" not in err
    hold.let_pass()
    hold.release()
    assert cli("env", "build", "--pip", package).code == 0


def test_what_is_larger_than_all_may_be_stays_and_says_so(
    cli: Cli, shop: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add("large")
    cli("server", "stop", "--force")
    monkeypatch.setenv("WINDLASS_ENVIRONMENTS_MAX_GB", "0.000001")
    made = cli("env", "build", "--pip", "large")
    assert "above the 1e-06 GB of environments_max_gb" in made.err and "stays until another" in made.err
    assert made.out.strip() in [entry["key"] for entry in cli("env", "--json").json["environments"]]
    cli("server", "stop", "--force")
