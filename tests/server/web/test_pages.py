from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest

from windlass.specs.container import ContainerOptions, ContainerSpec
from windlass.specs.run import Reason
from windlass.specs.status import RunStatus
from windlassd.server.web import present
from windlassd.store.base import ModelRecord

from .conftest import Browser, Site

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'"


class Page(HTMLParser):
    """What a page's reader sees: text, titles, links; and what could run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name == "href" and value]
        self.text += " " if tag not in ("b", "bdi", "code") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def both(browser: Browser, path: str) -> tuple[Page, dict[str, Any]]:
    """A page as its reader sees it, and its JSON twin by the link in its head."""
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    (twin,) = re.findall(r'<link rel="alternate" type="application/json" href="([^"]+)">', answer.text)
    return Page(answer.text), browser.get(html.unescape(twin)).json()


def test_the_root_leads_to_the_runs(browser: Browser) -> None:
    answer = browser.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")


def test_the_twin_is_the_same_by_suffix_and_by_accept(site: Site, browser: Browser) -> None:
    for path in ("/runs", f"/runs/{site.run_id}", "/experiments", "/models", "/queue"):
        by_suffix, by_accept = browser.get(path + ".json"), browser.get(path, headers={"Accept": "application/json"})
        strip = [
            {k: v for k, v in answer.json().items() if k not in ("shell", "phases")}
            for answer in (by_suffix, by_accept)
        ]
        assert strip[0] == strip[1]
        assert by_suffix.headers["content-type"] == "application/json"


def test_runs_shows_all_of_its_context(browser: Browser) -> None:
    page, twin = both(browser, "/runs")
    assert len(twin["runs"]) == 36 and twin["older"] is None
    for run in twin["runs"]:
        assert run["url"] in page.links
        for text in (run["name"], run["id"], present.words(RunStatus(run["status"])), run["target"]):
            assert text in page.text
        if run["status"] != "Completed" and run["reason"]:
            assert run["reason"] in page.text
    created = [run["created"] for run in twin["runs"]]
    assert created == sorted(created, reverse=True)
    assert set(twin["experiments"]) == {"digits", "digits-sweep"}


def test_run_shows_all_of_its_context(site: Site, browser: Browser) -> None:
    page, twin = both(browser, f"/runs/{site.run_id}")
    run = twin["run"]
    shown = [
        run["id"],
        run["name"],
        run["reason"],
        twin["script"],
        *twin["arguments"],
        twin["snapshot_id"],
        *twin["packages"],
    ]
    for key in ("facts", "environment", "variables", "git"):
        shown += [text for pair in twin[key] for text in pair]
    shown += [present.words(RunStatus(phase["status"])) for phase in twin["phases"]]
    shown += [series["name"] for series in twin["series"]]
    for file in twin["files"] + twin["logs"]:
        shown += [file["path"], present.size(file["size"])]
        assert file["url"] in page.links
    assert [text for text in shown if text not in page.text] == []
    assert {f["path"] for f in twin["logs"]} == {
        "azureml-logs/20_image_build_log.txt",
        "azureml-logs/70_driver_log.txt",
    }
    attributes = {name: value for tag, found in page.tags if tag == "article" for name, value in found.items()}
    assert (attributes["data-stream"], attributes["data-metrics"]) == (twin["stream"], twin["metrics"])
    assert [found["action"] for tag, found in page.tags if tag == "form" and found.get("method") == "post"] == [
        twin["cancel"]
    ]


def test_parent_and_children_are_a_link_away(site: Site, browser: Browser) -> None:
    run = site.backend.get_run(site.run_id)
    spec = replace(run.spec, script="", snapshot_id="", kind="interactive")
    child = replace(run, id=run.id + "_0", parent_id=run.id, display_name="fold 0", spec=spec)
    site.backend.add_run(child)
    page, twin = both(browser, f"/runs/{run.id}")
    assert f"/runs/{child.id}" in page.links and "fold 0" in page.text and twin["parent"] is None
    page, twin = both(browser, f"/runs/{child.id}")
    assert f"/runs/{run.id}" in page.links and twin["children"] == []
    assert f"/runs/{child.id}" not in both(browser, "/runs")[0].links


def test_a_run_that_failed_says_why_first(site: Site, browser: Browser) -> None:
    (failed, *_) = site.backend.list_runs(statuses=[RunStatus.FAILED])[0]
    page, twin = both(browser, f"/runs/{failed.id}")
    assert "Failed Rank 0 on gpucluster-0 failed first, with exit code 1: ValueError" in page.text
    assert twin["error"] == "exit code 1" and "exit code 1" in page.text
    assert not twin["cancelable"] and "Cancel run" not in page.text


def test_a_signal_is_named(site: Site, browser: Browser) -> None:
    (failed, *_) = site.backend.list_runs(statuses=[RunStatus.FAILED])[0]
    site.backend.add_run(replace(failed, exit_code=None, exit_signal="SIGKILL"))
    assert "ended by SIGKILL" in browser.get(f"/runs/{failed.id}").text


def test_lost_points_are_not_hidden(site: Site, browser: Browser) -> None:
    assert "were lost" not in browser.get(f"/runs/{site.run_id}").text
    site.backend.add_run(replace(site.backend.get_run(site.run_id), lost_points=12))
    assert "12 metric points were lost" in browser.get(f"/runs/{site.run_id}").text


def test_filters_narrow_the_list(browser: Browser) -> None:
    runs = browser.get("/runs.json?experiment=digits&status=Failed&status=Canceled").json()["runs"]
    assert runs and {(r["experiment"], r["status"]) for r in runs} <= {("digits", "Failed"), ("digits", "Canceled")}
    tagged = browser.get("/runs.json?tag=baseline&tag=owner%3Dana").json()["runs"]
    assert tagged and all(["baseline", ""] in run["tags"] and ["owner", "ana"] in run["tags"] for run in tagged)
    assert browser.get("/runs.json?tag=owner%3Dbob").json()["runs"] == []
    assert "No run fits" in browser.get("/runs?tag=owner%3Dbob").text
    fitting = browser.get("/runs.json?metric=min(train_loss)%3C1e9&metric=train_loss%3E-1e9").json()
    assert 0 < len(fitting["runs"]) < 36
    assert 'value="min(train_loss)&lt;1e+09"' in browser.get("/runs?metric=min(train_loss)%3C1e9").text
    assert browser.get("/runs?metric=loss").status_code == 400


def test_empty_fields_of_the_form_filter_nothing(browser: Browser) -> None:
    assert len(browser.get("/runs.json?experiment=&status=&tag=&before=").json()["runs"]) == 36


def test_filters_are_kept_in_the_form_and_in_the_stream(browser: Browser) -> None:
    page, twin = both(browser, "/runs?experiment=digits&status=Failed&tag=a%3Db")
    selected = [found.get("value") for tag, found in page.tags if tag == "option" and "selected" in found]
    assert selected == [None, "Failed"] and ("input", "a=b") in [(tag, found.get("value")) for tag, found in page.tags]
    assert twin["stream"] == "/runs/stream?experiment=digits"


def test_older_runs_are_a_link_away_and_none_is_missed(site: Site, browser: Browser) -> None:
    seed = site.backend.get_run(site.run_id)
    for n in range(90):
        site.backend.add_run(replace(seed, id=f"many_{n:03d}", created=1000.0 + n // 2, experiment="many"))
    seen, path = [], "/runs?experiment=many"
    while path:
        page, twin = both(browser, path)
        assert twin["older"] is None or twin["older"] in page.links
        seen += [run["id"] for run in twin["runs"]]
        path = twin["older"]
    assert seen == [f"many_{n:03d}" for n in range(89, -1, -1)]
    assert twin["newest"] == "/runs?experiment=many"


def test_experiments_models_and_queue_show_their_contexts(browser: Browser) -> None:
    page, twin = both(browser, "/experiments")
    for e in twin["experiments"]:
        assert e["url"] in page.links and f"{e['name']} {e['runs']}" in page.text
    page, twin = both(browser, "/models")
    assert [m["version"] for m in twin["models"]] == [5, 4, 3, 2, 1]
    for model in twin["models"]:
        assert model["run_url"] in page.links and model["framework"] in page.text and model["name"] in page.text
    page, twin = both(browser, "/queue")
    for cluster in twin["clusters"]:
        assert f"{cluster['busy']} of {cluster['current']} node" in page.text
        assert f"busy (at most {cluster['max_nodes']}), {cluster['idle']} idle" in page.text or (
            cluster["current"] == cluster["max_nodes"] and f"busy, {cluster['idle']} idle" in page.text
        )
    assert [run["reason"] for run in twin["clusters"][0]["waiting"]] == [
        "1st in line on gpucluster, waits for 2 nodes, 1 free."
    ]
    assert "1st in line on gpucluster, waits for 2 nodes, 1 free." in page.text
    (running,) = [node for node in twin["clusters"][0]["nodes"] if node["state"] == "running"]
    assert running["run"]["url"] in page.links and f"{running['name']} running · GPU 0" in page.text
    assert {node["state"] for node in twin["clusters"][1]["nodes"]} == {"idle"}


def test_a_run_in_a_container_shows_its_image_and_limits(site: Site, browser: Browser) -> None:
    run = site.backend.get_run(site.run_id)
    base = ContainerSpec("team/base:1", registry="localhost:5000")
    asked = replace(run.spec.environment, container=base, channels=("my-channel",))
    options = ContainerOptions(shm_bytes=4 << 30, memory_bytes=512 << 20, cpus=2.0, volumes=("/a:/b:ro",))
    boxed = replace(run, id="boxed", spec=replace(run.spec, environment=asked, container=options),
                    environment={**run.environment, "builder": "container", "image": "sha256:12ab"})  # fmt: skip
    site.backend.add_run(boxed)
    page, twin = both(browser, "/runs/boxed")
    wanted = {
        "Builder": "container", "Base image": "localhost:5000/team/base:1", "Image": "sha256:12ab",
        "Channels": "my-channel", "Memory limit": "512 MiB", "Shared memory": "4 GiB", "Processor limit": "2 cores",
        "Volumes": "/a:/b:ro",
    }  # fmt: skip
    assert wanted.items() <= dict(map(tuple, twin["environment"])).items()
    assert all(value in page.text for value in wanted.values())
    made = replace(boxed.spec.environment, container=ContainerSpec(dockerfile="FROM x"))
    site.backend.add_run(replace(boxed, spec=replace(boxed.spec, environment=made)))
    assert ["Base image", "made by a Dockerfile"] in both(browser, "/runs/boxed")[1]["environment"]


def test_an_empty_workspace_says_how_to_begin(site: Site, browser: Browser) -> None:
    site.backend.__init__(site.backend._folder / "empty")  # type: ignore[misc]
    for path, hint in (("/runs", "windlass submit"), ("/models", "register_model"), ("/queue", "ComputeTarget.create")):
        assert hint in browser.get(path).text
    assert "No experiments yet" in browser.get("/experiments").text


def test_nothing_that_users_wrote_becomes_markup(site: Site, browser: Browser) -> None:
    run = site.backend.get_run(site.run_id)
    spec = replace(
        run.spec, experiment=HOSTILE, script=HOSTILE, arguments=(HOSTILE,), environment_variables={HOSTILE: HOSTILE},
        target=HOSTILE, source_directory=HOSTILE, git={"branch": HOSTILE},
        environment=replace(run.spec.environment, pip_packages=(HOSTILE,), name=HOSTILE),
    )  # fmt: skip
    evil = replace(
        run, id=HOSTILE, experiment=HOSTILE, display_name=HOSTILE, spec=spec, tags={HOSTILE: HOSTILE},
        properties={HOSTILE: HOSTILE}, reason=Reason("x", HOSTILE), nodes=(HOSTILE,), history=(),
    )  # fmt: skip
    site.backend.add_run(replace(evil, id="evil"))
    site.backend.write("evil", "outputs/" + HOSTILE.replace("/", "_"), b"x")
    site.backend.log_metric("evil", HOSTILE, 1.0, 1.0)
    site.backend.log_metric("evil", HOSTILE + "2", HOSTILE, 1.0)
    site.backend.add_model(ModelRecord(HOSTILE, 1, 1.0, run_id="evil", tags={HOSTILE: HOSTILE}, description=HOSTILE))
    for path in (
        "/runs",
        "/runs/evil",
        "/models",
        "/queue",
        "/experiments",
        f"/runs?tag={quote(HOSTILE)}",
        f"/x{quote(HOSTILE)}",
    ):
        text = browser.get(path).text
        page = Page(text)
        assert not any(name.startswith("on") or name == "style" for _, found in page.tags for name in found), path
        assert all("src" in found for tag, found in page.tags if tag == "script"), path
        assert not any(link.lower().startswith("javascript:") for link in page.links)
        assert "<img src=x" not in text and ("style", {}) not in page.tags


@pytest.mark.parametrize("path", ["/runs", "/runs/{run}", "/experiments", "/models", "/queue"])
def test_pages_need_no_inline_script_or_style(site: Site, browser: Browser, path: str) -> None:
    page = Page(browser.get(path.format(run=site.run_id)).text)
    assert not any("style" in found for _, found in page.tags) and "style" not in [tag for tag, _ in page.tags]
    scripts = [found for tag, found in page.tags if tag == "script"]
    assert scripts and all((found.get("src") or "").startswith("/static/") for found in scripts)


def test_of_very_many_files_a_page_shows_some(site: Site, browser: Browser) -> None:
    for number in range(510):
        site.backend.write(site.run_id, f"outputs/many/{number:04}.txt", b"x")
    twin = browser.get(f"/runs/{site.run_id}.json").json()
    assert len(twin["files"]) == 500 and twin["files_left"] >= 10 and twin["logs"]
    text = browser.get(f"/runs/{site.run_id}").text
    assert text.count("/files/outputs/many/") < 2 * 510 and f"windlass run files {site.run_id}" in text


def test_metrics_survive_json(site: Site, browser: Browser) -> None:
    found = browser.get(f"/runs/{site.run_id}/metrics?name=gradient_norm").json()["metrics"]["gradient_norm"]
    assert found["values"][12] == "Infinity" and found["steps"][:3] == [0, 1, 2]
    assert "NaN" in browser.get(f"/runs/{site.run_id}/metrics?name=val_loss").json()["metrics"]["val_loss"]["values"]


def test_metrics_are_thinned_out(site: Site, browser: Browser) -> None:
    found = browser.get(f"/runs/{site.run_id}/metrics?points=50").json()["metrics"]["train_loss"]
    assert found["count"] == 240 and len(found["values"]) <= 50
    assert browser.get(f"/runs/{site.run_id}/metrics?points=100000").status_code != 200


def test_a_canceled_run_is_asked_once(site: Site, browser: Browser) -> None:
    headers = {"Origin": "http://127.0.0.1:8123"}
    assert browser.post("/runs/nope/cancel", headers=headers).status_code == 404
    for _ in range(2):
        assert browser.post(f"/runs/{site.run_id}/cancel", headers=headers).status_code == 303
    page, twin = both(browser, f"/runs/{site.run_id}")
    assert not twin["cancelable"] and "Cancel requested" in page.text and "Cancel run" not in page.text
