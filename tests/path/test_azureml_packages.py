"""Requirements on ``azureml-*``: satisfied by Windlass, never installed, and found by whoever asks at run time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of
from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace
from windlassd.testing.package_index import PackageIndex

ASKS = """
import importlib.metadata as metadata, os, subprocess, sys
import azureml.core, helper, more
assert azureml.core.__file__.startswith(os.environ["PYTHONPATH"].split(os.pathsep)[0])
assert azureml.core.VERSION == metadata.version("azureml-core") == metadata.version("azureml_defaults")
from azureml.core import Run
Run.get_context().log("found", 1)
needs = [text.split(";")[0] for text in metadata.requires("helper")]
print("needs", needs, [metadata.version(text.split(">")[0]) for text in needs if "core" in text])
print("theirs", [d.metadata["Name"] for d in metadata.distributions()
                 if d.metadata["Name"].startswith("azureml") and str(d.locate_file("")).startswith(sys.prefix)])
print(subprocess.run([os.path.join(sys.prefix, "bin", "say-it")], capture_output=True, text=True, check=True).stdout)
"""


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shared")
    with PackageIndex() as index, pytest.MonkeyPatch.context() as patch:
        index.add(
            "helper",
            requires=["azureml-core>=1.0", "azureml-made-up", "more[ml]"],
            files={
                "helper.py": "import importlib.metadata\ndef main():\n"
                "    print('said with azureml-core', importlib.metadata.version('azureml-core'))\n",
                "entry_points.txt": "[console_scripts]\nsay-it = helper:main\n",
            },
        )
        index.add("more", metadata=["Provides-Extra: ml"], requires=['azureml-sdk[notebooks]>=1.0; extra == "ml"'])
        for name in ("azureml-core", "azureml-made-up"):
            index.add(name, "1.0", files={"azureml/core/__init__.py": "raise ImportError('theirs')\n"})
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_")):
                patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_INDEX_URL", index.url)
        constraints = folder / "constraints.txt"
        constraints.write_text("azureml-core==1.0\nhelper<2\n")
        patch.setenv("PIP_CONSTRAINT", str(constraints))
        patch.setenv("UV_CACHE_DIR", str(folder / "uv-cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield folder
        end_processes_of(folder)


@pytest.mark.parametrize(
    "environment",
    [
        {"pip_packages": ["helper", "azureml-defaults", "azureml-sdk[notebooks]==1.0.85", "azureml_core"]},
        {"pip_packages": ["helper"], "conda_packages": ["azureml-defaults=1.0"]},
    ],
    ids=["pip", "conda and transitive"],
)
def test_they_are_there_for_all_who_ask_and_not_installed(shared: Workspace, environment: dict[str, object]) -> None:
    run_id = shared.submit(ASKS, environment=environment)
    run = shared.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    log = shared.log(run_id)
    assert "'1.61.0'" in log and "theirs []" in log and "said with azureml-core 1.61.0" in log
    notes = " ".join(run.environment["notes"])
    assert "azureml-made-up: a dependency that Windlass satisfies, not installed." in notes
    assert "azureml-defaults" in notes
