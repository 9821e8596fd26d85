"""What imports load, on which Pythons the SDK compiles, and v1's paths."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import azureml.core
import windlass
from windlass.errors import NotOffered

SDK = Path(windlass.__file__).parent.parent
SOURCES = [p for p in sorted(SDK.rglob("*.py")) if "cli" not in p.relative_to(SDK).parts]
_HEAVY = {"http.client", "urllib", "urllib.request", "subprocess", "argparse", "logging", "socket", "ssl", "email",
          "difflib", "hashlib", "tempfile", "uuid"}  # fmt: skip


def loaded_by(code: str, **env: str) -> set[str]:
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(' '.join(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True,
                          env={"PATH": "/bin", **env} if env else None)  # fmt: skip
    return set(done.stdout.split())


def test_import_windlass_is_nearly_free() -> None:
    assert {m for m in loaded_by("import windlass") if not m.startswith("windlass")} <= {"importlib", "__future__"}
    assert loaded_by("import windlass") & {"typing", "json", "dataclasses"} == set()


def test_a_job_that_logs_loads_no_network(tmp_path: Path) -> None:
    job = {"AZUREML_RUN_ID": "r", "WINDLASS_WORKSPACE_DIR": str(tmp_path), "WINDLASS_SPOOL_DIR": str(tmp_path / "s")}
    loaded = loaded_by("from windlass import Run; Run.get_context().log('m', 1)", **job)
    assert loaded & _HEAVY == set() and not {m for m in loaded if m.startswith("windlass._transport")}


def test_azureml_core_leaves_urllib_request_loaded() -> None:
    assert "urllib.request" in loaded_by("import azureml.core")
    assert azureml.core.VERSION == azureml.core.__version__ == windlass.VERSION == "1.61.0"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(SDK)))
def test_every_file_is_python_3_7(path: Path) -> None:
    text = path.read_text()
    ast.parse(text, feature_version=(3, 7))
    assert "from __future__ import annotations" in text or len(text.splitlines()) <= 2


def _interpreters() -> list[Path]:
    found = []
    for path in sorted(Path("~/.pyenv/versions").expanduser().glob("*/bin/python")):
        version = path.parent.parent.name.split(".")
        if version[0] == "3" and int(version[1]) >= 7:
            found.append(path)
    return found


@pytest.mark.interpreters
@pytest.mark.parametrize("python", _interpreters(), ids=lambda p: p.parent.parent.name)
def test_every_interpreter_compiles_and_logs(python: Path, tmp_path: Path) -> None:
    env = {"PATH": "/bin", "PYTHONPATH": str(SDK), "AZUREML_RUN_ID": "r", "WINDLASS_WORKSPACE_DIR": str(tmp_path),
           "WINDLASS_SPOOL_DIR": str(tmp_path / "spool"), "WINDLASS_HOME": str(tmp_path)}  # fmt: skip
    code = (
        "import sys, importlib\n"
        "for p in sys.argv[1:]: compile(open(p, encoding='utf-8').read(), p, 'exec')\n"
        "from azureml.core import Run, Workspace, Experiment, Model\n"
        "from azureml.core.compute import AmlCompute\n"
        "from azureml.train.estimator import Estimator\n"
        "import windlass._submit, windlass._streaming, windlass._offline_run\n"
        "from azureml._names import MODULES\n"
        "for name in MODULES:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError as problem:\n"
        "        if 'is not offered by Windlass' not in str(problem): raise\n"
        "run = Run.get_context(); run.log('m', 0.5, step=1); run.log('m', 2); run.log_row('r', x=1)\n"
        "AmlCompute.provisioning_configuration(vm_size='STANDARD_NC6', max_nodes=2)\n"
        "Estimator('.', entry_script='t.py', pip_packages=['x'])._job()\n"
    )
    subprocess.run([str(python), "-W", "error", "-c", code, *map(str, SOURCES)], check=True, env=env, timeout=60)
    assert len(list((tmp_path / "spool").glob("*.spool"))) == 1


def test_every_offered_path_imports_what_it_says() -> None:
    modules = [
        ".".join(p.relative_to(SDK).with_suffix("").parts).removesuffix(".__init__")
        for p in SOURCES if p.relative_to(SDK).parts[0] == "azureml"
    ]  # fmt: skip
    for name in modules:
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", ()):
            assert getattr(module, exported) is not None


@pytest.mark.parametrize(
    "statement",
    ["from azureml.core import Keyvault", "from azureml.train.hyperdrive import choice",
     "import azureml.pipeline.core", "from azureml.widgets import RunDetails"],
)  # fmt: skip
def test_a_name_that_is_not_offered_says_so(statement: str) -> None:
    with pytest.raises(ImportError, match="is not offered by Windlass") as caught:
        exec(statement)
    assert isinstance(caught.value, NotOffered)


def test_an_unknown_name_is_an_ordinary_error() -> None:
    assert not hasattr(azureml.core, "Nothing")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from azureml.core import Nothing")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = windlass.Nothing


def test_star_import_gives_what_the_documents_use() -> None:
    names: dict[str, object] = {}
    exec("from azureml.core import *\nfrom azureml.core.compute import *", names)
    assert {"Workspace", "Experiment", "Run", "ComputeTarget", "AmlCompute", "VERSION"} <= set(names)
