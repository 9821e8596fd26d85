"""Virtual environments by uv: the default builder."""

from __future__ import annotations

import functools
import glob
import json
import os
import platform
from collections.abc import Mapping, Sequence

import uv

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _uv_errors
from windlassd.envs._index import IndexSettings, index_settings
from windlassd.envs._process import MemoryFile, memory_file, run
from windlassd.envs._requirements import Wanted, is_azureml, requirement_name, wanted
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.interpreters import Interpreter, Interpreters, own, too_old

# Names that packages in the wild depend on; what else begins with azureml- is found by resolving and then left out.
_AZUREML = (
    "azureml-core", "azureml-defaults", "azureml-sdk", "azureml-train", "azureml-train-core", "azureml-pipeline",
    "azureml-pipeline-core", "azureml-pipeline-steps", "azureml-telemetry", "azureml-dataprep", "azureml-interpret",
    "azureml-dataset-runtime", "azureml-mlflow", "azureml-widgets", "azureml-tensorboard",
    "azureml-train-restclients-hyperdrive", "azureml-model-management-sdk", "azureml-inference-server-http",
)  # fmt: skip
_MOST_ROUNDS = 8
_HEALTH = "import json, sys; print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.prefix]))"


class VenvBuilder:
    """Resolves with ``uv pip compile`` and installs, by hard links out of uv's cache, what the lock names."""

    name = "venv"
    in_place = False

    def __init__(self, interpreters: Interpreters) -> None:
        self._interpreters = interpreters

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason for what a virtual environment cannot be."""
        if spec.user_managed:
            return {"user_managed": "a virtual environment is built, never taken from the user"}
        try:
            python = wanted(spec).python
        except EnvironmentFailed as e:
            return {"packages": e.message}
        if python and too_old(python):
            return {"python_version": f"Python {python} is asked for, and jobs run on Python 3.7 and newer"}
        return {}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """Index settings, platform, and, when the spec leaves the choice, the default interpreter."""
        default = own()
        return {
            "builder": self.name,
            "platform": platform_name(),
            "default": None if wanted(spec).python else [default.path, default.version],
            "index": index_settings().public,
        }

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """The spec's packages to the last version, for the chosen interpreter."""
        want = wanted(spec)
        python = self._interpreters.choose(want.python)
        notes = [f"Python {python.version} ({python.path}).", *want.notes]
        for note in notes:
            work.log(note)
        pins: Sequence[str] = ()
        if want.requirements:
            pins, left_out = _resolved(want, python, work)
            notes += [f"{name}: a dependency that Windlass satisfies, not installed." for name in left_out]
        return Lock(self.name, python.path, python.version, platform_name(), pins, tuple(notes))

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Make a relocatable virtual environment at ``prefix`` and install the lock into it."""
        index = index_settings()
        _uv(["venv", "--relocatable", "--no-project", "--quiet", "--python", lock.python, prefix], index, lock, work)
        if not lock.requirements:
            return
        hashed = all("--hash=" in line for line in lock.requirements if not line.startswith("-"))
        with memory_file("\n".join(lock.requirements) + "\n") as packages:
            argv = ["pip", "sync", "--python", self.interpreter(lock, prefix), packages.path, *index.options]
            # A requirement from version control has no hash; uv still verifies those that are there.
            argv += ["--require-hashes"] if hashed else []
            argv += [] if "UV_LINK_MODE" in index.environment else ["--link-mode", "hardlink"]
            _uv(argv, index, lock, work, packages)

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """``bin/python`` of the environment."""
        return os.path.join(prefix, "bin", "python")

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """Start the interpreter; compare its version, its prefix and the number of packages with the lock."""
        done = run([self.interpreter(lock, prefix), "-I", "-B", "-c", _HEALTH], index_settings().environment, work)
        if done.code != 0:
            return f"its interpreter exits with status {done.code}: {done.err.strip()[-300:]}"
        version, at = json.loads(done.out)
        if version != lock.python_version:
            return f"it runs Python {version} where {lock.python_version} was wanted"
        if os.path.realpath(at) != os.path.realpath(prefix):
            return f"its interpreter takes {at} for its home"
        installed = len(glob.glob(os.path.join(glob.escape(prefix), "lib", "python*", "site-packages", "*.*-info")))
        if installed < lock.package_count:
            return f"{installed} of {lock.package_count} packages are there"
        return None


@functools.lru_cache(maxsize=1)
def platform_name() -> str:
    """Such as ``linux-x86_64-glibc2.36``: what decides which wheels fit."""
    libc = (os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None) or "libc"
    return f"linux-{platform.machine()}-{libc.replace(' ', '')}"


def _resolved(want: Wanted, python: Interpreter, work: Work) -> tuple[Sequence[str], Sequence[str]]:
    """(pinned requirements with hashes, names of azureml packages that were left out)."""
    index = index_settings()
    excluded = set(_AZUREML)
    found: list[str] = []
    for _ in range(_MOST_ROUNDS):
        pins = _compiled(want, python, index, excluded, work)
        more = sorted({requirement_name(pin) for pin in pins if is_azureml(pin)})
        if not more:
            return (*want.options, *sorted(pins)), found
        found += more
        excluded |= set(more)
    raise EnvironmentFailed(f"azureml packages keep coming in as dependencies: {', '.join(found)}.",
                            "Leave out the package that needs them.")  # fmt: skip


def _compiled(want: Wanted, python: Interpreter, index: IndexSettings, excluded: set[str], work: Work) -> Sequence[str]:
    asked = Lock("", python.path, python.version, "", want.requirements)
    with (
        memory_file("\n".join((*want.options, *want.requirements)) + "\n") as packages,
        memory_file("\n".join(sorted(excluded)) + "\n") as excludes,
    ):
        argv = ["pip", "compile", packages.path, "--excludes", excludes.path, "--python", python.path]
        argv += ["--generate-hashes", "--no-header", "--no-annotate", *index.options]
        out = _uv(argv, index, asked, work, packages, excludes)
    return [" ".join(line.split()) for line in out.replace("\\\n", " ").splitlines() if line.strip()]


def _uv(args: Sequence[str], index: IndexSettings, lock: Lock, work: Work, *files: MemoryFile) -> str:
    """Run uv, hand its lines on without credentials, and return its standard output.

    Raises:
        EnvironmentFailed: uv failed; its reason in our words.
    """
    done = run(
        [_uv_program(), *args],
        index.environment,
        work,
        files=files,
        on_line=lambda line: _tell(work, index.mask(line)),
    )
    if done.code != 0:
        asked = [line.split(" --hash=")[0] for line in lock.requirements]
        raise _uv_errors.failure(index.mask(done.err), asked, lock.python_version)
    return index.mask(done.out)


def _tell(work: Work, line: str) -> None:
    # "Using Python … at …/building/…" names a folder that is gone by the time somebody reads it.
    if line.strip() and not line.startswith("Using "):
        work.log(_uv_errors.readable(line))


@functools.lru_cache(maxsize=1)
def _uv_program() -> str:
    return uv.find_uv_bin()


def create(interpreters_file: str) -> VenvBuilder:
    """The builder, for the registry."""
    return VenvBuilder(Interpreters(interpreters_file))
