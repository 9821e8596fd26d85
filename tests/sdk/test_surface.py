"""SDK v1's names and signatures, one by one: each is there as v1 had it, or says that it is not offered."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from azureml._absent import REASONS, absent, reason_for
from azureml._names import MODULES
from windlass._not_offered import AbsentMethod, AbsentProperty, OnlyDefault, refuse_options
from windlass.errors import NotOffered
from windlassd.testing import surface as v1
from windlassd.testing._refusals import Refusals
from windlassd.testing._silent import SILENT
from windlassd.testing.surface import IGNORED, MISSING, NO, PARTLY, YES, Surface

SURFACE = Surface.read(Path(__file__).parents[1] / "data" / "v1_surface.json")
CLASSES = {one.path: one for one in SURFACE.compare()}
OFFERED = [path for path, one in CLASSES.items() if one.state != NO or any(m.state != NO for m in one.members)]
_BY_NAME = "v1's users never made one: datastores come from the workspace, by name"
DIFFERENT = {
    "azureml.core.run._OfflineRun.flush": "takes what Run.flush takes, so that a script runs either way",
    "azureml.core.run._OfflineRun.log": "takes what Run.log takes, so that a script runs either way",
    "azureml.data.azure_storage_datastore.AbstractAzureStorageDatastore.__init__": _BY_NAME,
    "azureml.data.azure_storage_datastore.AzureBlobDatastore.__init__": _BY_NAME,
    "azureml.data.azure_storage_datastore.AzureFileDatastore.__init__": _BY_NAME,
    "azureml.exceptions.RunEnvironmentException.__init__": "v1 had one fixed sentence; ours says what was looked for",
}
"""Members whose signature is not v1's on purpose, and why."""


@pytest.mark.parametrize("path", OFFERED)
def test_signatures_are_v1s(path: str) -> None:
    wrong = {m.name: m.mismatch for m in CLASSES[path].members if m.mismatch and m.mismatch != MISSING}
    assert {name: why for name, why in wrong.items() if f"{path}.{name}" not in DIFFERENT} == {}
    on_purpose = {name.rpartition(".")[2] for name in DIFFERENT if name.rpartition(".")[0] == path}
    assert on_purpose <= set(wrong), "strike what is no longer different from DIFFERENT"


@pytest.mark.parametrize("path", OFFERED)
def test_no_member_of_v1_is_simply_missing(path: str) -> None:
    missing = [m.name for m in CLASSES[path].members if m.mismatch == MISSING]
    assert missing == [], f"{path}: make it, or say with AbsentMethod or AbsentProperty that it is not offered"


@pytest.mark.parametrize("path", sorted(SURFACE.modules))
def test_every_import_path_is_there_or_says_so(path: str) -> None:
    try:
        module = importlib.import_module(path)
    except ImportError as problem:
        assert isinstance(problem, NotOffered)
        assert path.startswith(str(problem).partition(" is not offered by Windlass")[0])  # it, or the folder it is in
        return
    assert MODULES[path] == SURFACE.modules[path]
    for name in SURFACE.modules[path].split():
        try:
            getattr(module, name)
        except ImportError as problem:
            assert isinstance(problem, NotOffered) and f"{path}.{name} is not offered by Windlass" in str(problem)


@pytest.mark.parametrize("path", sorted(p for p in SURFACE.classes if p not in OFFERED and "._" not in p))
def test_what_is_absent_says_what_to_use(path: str) -> None:
    reason = reason_for(path) or reason_for(path.rpartition(".")[0])
    assert reason is not None and reason.instead.endswith(".")
    assert str(absent(path)).startswith(f"{path} is not offered by Windlass{' yet' * reason.planned}. ")


def test_no_option_is_taken_and_ignored_without_a_reason() -> None:
    silent = [
        f"{path}.{m.name}.{p.name}" for path in OFFERED for m in CLASSES[path].members for p in m.parameters
        if p.how == IGNORED
    ]  # fmt: skip
    assert silent == [], "honour it, refuse it with refuse_options, or say in _silent.py why nothing is lost"
    said = {p.how for path in OFFERED for m in CLASSES[path].members for p in m.parameters}
    unused = {why for why in SILENT.values() if f"{IGNORED} {why}" not in said}
    assert unused == set(), "strike it from _silent.py"


def test_a_class_is_the_same_by_every_path() -> None:
    homes: dict[str, Any] = {}
    for module, names in SURFACE.modules.items():
        for name in names.split():
            found = v1.offered(f"{module}.{name}") if f"{module}.{name}" not in SURFACE.classes else None
            if isinstance(found, type):
                assert homes.setdefault(name, found) is found, f"{module}.{name}"
    assert len(homes) > 20


def test_every_refusal_can_be_listed() -> None:
    assert Refusals.of(v1.package_folder()).unreadable == []


def test_reasons_end_in_a_sentence_and_none_hides_another() -> None:
    assert all(reason.instead.endswith(".") for reason in REASONS)
    assert len({reason.pattern for reason in REASONS}) == len(REASONS)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("from azureml.widgets import RunDetails", "yet. Use run.wait_for_completion"),
        ("from azureml.tensorboard import Tensorboard", "yet. Open run.get_portal_url"),
        ("from azureml.train.hyperdrive.policy import BanditPolicy", "yet. Submit one run"),
        ("from azureml.core.webservice import AciWebservice", "yet. Download the model"),
        ("from azureml.core import Keyvault", "yet. Pass secrets"),
        ("from azureml.train.automl import AutoMLConfig", r"Windlass\. Train with"),
        ("from azureml.core.compute import AksCompute", r"Windlass\. Use AmlCompute"),
        ("from azureml.core.compute import ComputeInstance", r"Windlass\. Use AmlCompute"),
        ("from azureml.core.compute.aks import AksCompute", r"Windlass\. Use AmlCompute"),
        ("from azureml.core.environment import SparkSection", r"Windlass\. Run the script"),
        ("from azureml.pipeline.steps import PythonScriptStep", r"Windlass\. Submit the steps"),
        ("import azureml.contrib.notebook", r"Windlass\. Previews"),
    ],
)
def test_each_kind_of_absence(statement: str, words: str) -> None:
    with pytest.raises(ImportError, match=f"is not offered by Windlass.*{words}|{words}") as caught:
        exec(statement)
    assert isinstance(caught.value, NotOffered)


@pytest.mark.parametrize("statement", ["import azureml._restclient", "import azureml.nothing", "import azureml.core.x"])
def test_internals_are_not_offered(statement: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        exec(statement)


class Ours:
    """What v1's made-up class became."""

    gone = AbsentMethod("Use here().")
    lost = AbsentProperty("Ask here().")
    fixed = OnlyDefault(3, "Leave it.")

    def __init__(self, name: str, size: int = 1, colour: str | None = None) -> None:
        refuse_options("Ours", {"colour": (colour, None, "Paint it.")})
        self.name, self.size = name, size

    @staticmethod
    def make(one: int, *, two: int = 2) -> int:
        return one + two

    def here(self, deep: bool = False, **more: object) -> object:
        return deep, more

    def deaf(self, loud: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("name", "text", "state", "how"),
    [
        ("__init__", "(name, size=1)", PARTLY, "also takes colour"),
        ("__init__", "(name, size=2, colour=None)", PARTLY, "the default of size is 1"),
        ("__init__", "(name, colour=None, size=1)", PARTLY, "another order"),
        ("__init__", "(name, size=1, colour=None, shape=None)", PARTLY, "lacks shape"),
        ("make", "static (one, *, two=2)", YES, ""),
        ("make", "class (one, *, two=2)", YES, ""),
        ("make", "(one, *, two=2)", PARTLY, "called on the class"),
        ("make", "static (one, two=2)", PARTLY, "two is keyword-only"),
        ("here", "(deep=False, **more)", YES, ""),
        ("here", "(deep=False, other=None, **more)", PARTLY, "lacks other"),
        ("here", "(deep=0, **more)", PARTLY, "the default of deep is False"),
        ("deaf", "(loud=False)", PARTLY, ""),
        ("gone", "(x)", NO, "Use here()."),
        ("lost", "property", NO, "Ask here()."),
        ("fixed", "property", PARTLY, "Only 3. Leave it."),
        ("here", "property", YES, ""),
        ("nowhere", "()", NO, MISSING),
    ],
)
def test_the_comparison_sees(name: str, text: str, state: str, how: str) -> None:
    found = v1.member(Ours, name, text, Refusals())
    assert found.state == state and how in found.how


def test_an_attribute_that_keeps_its_default() -> None:
    ours = Ours("x")
    ours.fixed = 3
    assert ours.fixed == 3
    with pytest.raises(NotOffered, match=r"Ours\.fixed=4 is not offered by Windlass yet\. Leave it\."):
        ours.fixed = 4


def test_an_option_that_nobody_reads_is_seen() -> None:
    found = v1.member(Ours, "deaf", "(loud=False)", Refusals())
    assert [(p.name, p.state, p.how) for p in found.parameters] == [("loud", PARTLY, IGNORED)]


def test_refused_options_are_read_from_the_source(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text("_WHY = 'Paint it.'\n" + inspect.getsource(Ours).replace("'Paint it.'", "_WHY"))
    found = v1.member(Ours, "__init__", "(name, size=1, colour=None)", Refusals.of(tmp_path))
    assert [(p.name, p.state, p.how) for p in found.parameters if p.state != YES] == [("colour", NO, "Paint it.")]
    assert found.state == PARTLY and found.mismatch == ""


@pytest.mark.parametrize("options", ["given", "{**given}", "{key: (1, 2, '') for key in given}", "{'a': given}"])
def test_a_refusal_that_cannot_be_listed_is_reported(tmp_path: Path, options: str) -> None:
    (tmp_path / "x.py").write_text(f"def f(given):\n    refuse_options('Ours', {options})\n")
    assert Refusals.of(tmp_path).unreadable == ["x.py:2"]


def test_an_attribute_of_which_some_values_are_refused(tmp_path: Path) -> None:
    checks = "if self.name:\n            raise not_offered('%s.name=%r' % (w, self.name), NO)\n"
    loop = "        for name in ('size', 'x'):\n            raise not_offered('%s.%s' % (w, name), 'Leave it.')\n"
    (tmp_path / "x.py").write_text(f"class Ours:\n    def _check(self, w):\n        {checks}{loop}")
    (tmp_path / "y.py").write_text("NO = 'Call it otherwise.'\n")
    refusals = Refusals.of(tmp_path)
    assert v1.member(Ours, "name", "property", refusals).how == "Some values are refused. Call it otherwise."
    assert v1.member(Ours, "size", "property", refusals).how == "Some values are refused. Leave it."


def test_a_method_that_only_raises_is_absent(tmp_path: Path) -> None:
    text = "class Ours:\n    def here(self):\n        '''x'''\n        raise not_offered('a', 'B.')\n"
    (tmp_path / "x.py").write_text(text)
    assert v1.member(Ours, "here", "(deep=False, **more)", Refusals.of(tmp_path)).how == "B."
