"""The bench itself: every benchmark loads and is described, and what it prints becomes tables and charts."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("*.py") if not path.stem.startswith("_"))
DRIVERS = sorted((BENCHMARKS / "_drivers").glob("drive_*.py"))
Bench = Callable[[str], ModuleType]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_loads_says_what_it_measures_and_is_part_of_the_whole_run(bench: Bench, name: str) -> None:
    report = bench("_report")
    assert callable(bench(name).main)
    assert report.purpose(name).endswith((".", ":")), "the docstring's first paragraph is not a sentence"
    assert name in report.ALL, f"scripts/bench does not run {name}"


def test_no_group_has_the_name_of_a_benchmark(bench: Bench) -> None:
    report = bench("_report")
    assert not set(report.GROUPS) & set(report.ALL)
    assert len(set(report.ALL)) == len(report.ALL)
    assert set(report.ALL) == set(NAMES)


def test_unknown_names_are_refused_with_what_there_is() -> None:
    done = subprocess.run([sys.executable, str(BENCHMARKS / "_report.py"), "log_pint"], capture_output=True, text=True)
    assert done.returncode == 2 and "no benchmark 'log_pint'" in done.stderr and "log_point" in done.stderr


def test_a_section_has_its_rows_tables_charts_and_notes(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    report, measure, plot = bench("_report"), bench("_measure"), bench("_plot")
    measure.tell(measure.Row("an `a|b`", "5 ms", target="≤ 4 ms", met=False))
    measure.table(["tool", "time"], [["cp", "1 s"]])
    plot.publish("one", plot.bars("One", [plot.Bar("cp", 1.0)], plot.seconds), "how long cp takes")
    measure.note("On a quiet day.")
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    text = report.section("log_point", told)
    assert text.startswith("## log_point\n\n`run.log` per point")
    assert "| what | measured | target | met |\n| --- | --- | --- | --- |\n" in text, "empty columns are left out"
    assert "| an `a\\|b` | 5 ms | ≤ 4 ms | **no** |" in text
    assert "| tool | time |\n| --- | --- |\n| cp | 1 s |" in text
    assert "![how long cp takes](plots/one.svg)" in text
    assert text.endswith("\nOn a quiet day.\n")


def test_a_new_section_leaves_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = bench("_report")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    report._keep("ingest", "## ingest\n\nfirst\n")
    report._keep("log_point", "## log_point\n\nother\n")
    report._keep("ingest", "## ingest\n\nsecond\n")
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.startswith("# Measured") and "first" not in text
    assert text.index("other") < text.index("second"), "the order is that of the whole run"


def test_bars_grow_with_their_values_and_a_reason_stands_for_a_missing_one(bench: Bench) -> None:
    plot = bench("_plot")
    given = [plot.Bar("os.write", 1e-6, plot.BARE), plot.Bar("Windlass", 2e-6, plot.OURS), plot.Bar("MLflow", 0.015),
             plot.Bar("Aim", None, text="could not be measured: no wheel <here>")]  # fmt: skip
    svg = ElementTree.fromstring(plot.bars("Logging", given, plot.seconds))
    rects = [rect for rect in svg.iter("{http://www.w3.org/2000/svg}rect") if rect.get("class") != "card"]
    widths = [float(rect.get("width", "nan")) for rect in rects]
    assert [rect.get("class") for rect in rects] == ["bare", "ours", "peer"]
    assert 0 < widths[0] < widths[1] < widths[2]
    texts = ["".join(text.itertext()) for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    for text in ("os.write", "2 µs", "15 ms", "could not be measured: no wheel <here>", "shorter is better; log axis"):
        assert text in texts


def test_everything_drawn_lies_on_the_card(bench: Bench) -> None:
    plot = bench("_plot")
    lines = [plot.Line(f"line {n}", [(10.0**x, 1e-3 * 3 ** (x + n)) for x in range(1, 6)]) for n in range(5)]
    forms = {"x_form": plot.magnitude, "y_form": plot.seconds}
    lines.append(plot.Line("bare", [(10, 1e-4)], plot.BARE))
    svg = ElementTree.fromstring(plot.lines("Growth", lines, x="runs", y="seconds", target=0.3, **forms))
    width, height = float(svg.get("width", "nan")), float(svg.get("height", "nan"))
    for text in svg.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.get("x", "nan")) < width and 0 < float(text.get("y", "nan")) < height, text.text
    for dot in svg.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 < float(dot.get("cx", "nan")) < width and 0 < float(dot.get("cy", "nan")) < height


def test_a_log_axis_refuses_what_it_cannot_show(bench: Bench) -> None:
    plot = bench("_plot")
    with pytest.raises(ValueError, match="a log axis cannot show 0"):
        plot.bars("None", [plot.Bar("nothing", 0.0)], plot.seconds)


@pytest.mark.parametrize("path", DRIVERS, ids=lambda path: path.stem)
def test_a_driver_has_what_it_serves(path: Path) -> None:
    """Drivers run in their tool's environment; here they are only read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.name} does not say what it drives"
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    served = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and ast.unparse(call.func) == "serve"]
    assert served and {ast.unparse(word.value) for word in served[0].keywords} <= defined


def test_every_peer_is_pinned_without_an_address(bench: Bench) -> None:
    peers = bench("_peers")
    for name in peers.NAMES:
        text = (ROOT / "constraints" / f"bench-{name}.txt").read_text(encoding="utf-8")
        assert re.search(rf"^{name}==\d", text, re.MULTILINE), f"{name} itself is not pinned"
        assert "://" not in text and " @ " not in text
        assert all("==" in line for line in text.splitlines() if line and not line.startswith("#"))
