"""One ``uv pip compile``: a package list to the last version for one Python, without what Windlass satisfies itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from windlassd.envs._asked_hashes import with_asked_hashes
from windlassd.envs._downloads import Download
from windlassd.envs._index import IndexSettings
from windlassd.envs._process import memory_file
from windlassd.envs._requirements import Wanted, is_azureml, requirement_name
from windlassd.envs._unreadable import uv_config
from windlassd.envs._uv import run_uv
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.interpreters import Interpreter, own


@dataclass(frozen=True)
class Planned(Interpreter):
    """A Python that is not on this machine: on the nodes, or nowhere yet, when ``path`` says where it will be from."""

    provided: tuple[str, ...] = ()
    """PyPI's names of what conda's channels bring along, and so is not installed."""
    wheels_for: str | None = None
    """uv's name of the platform it will run on, such as ``x86_64-manylinux_2_28``; None: this machine's."""
    stand_in: str | None = None
    """Path of the interpreter of this machine that builds what must be built to know what it needs; None: our own."""


Python = Interpreter | Download
"""What a list is resolved for; wheels are chosen for a download, too, but nothing can be built for it."""

# Names that packages in the wild depend on; what else begins with azureml- is found by resolving and then left out.
_AZUREML = (
    "azureml-core", "azureml-defaults", "azureml-sdk", "azureml-train", "azureml-train-core", "azureml-pipeline",
    "azureml-pipeline-core", "azureml-pipeline-steps", "azureml-telemetry", "azureml-dataprep", "azureml-interpret",
    "azureml-dataset-runtime", "azureml-mlflow", "azureml-widgets", "azureml-tensorboard",
    "azureml-train-restclients-hyperdrive", "azureml-model-management-sdk", "azureml-inference-server-http",
)  # fmt: skip
_MOST_ROUNDS = 8


@dataclass(frozen=True)
class Extra:
    """What one resolution has beside the request; it stays with the lock, as the installation needs it, too."""

    exclude_newer: str | None = None
    """A date: files uploaded later are not seen."""
    but: tuple[tuple[str, str], ...] = ()
    """(project, its own date): where that one does not hold; ``false`` for none."""
    torch_backend: str | None = None
    """``cpu``: PyTorch's own index of builds without CUDA."""

    @property
    def options(self) -> Sequence[str]:
        """For uv's command line."""
        given = [("--exclude-newer", self.exclude_newer), ("--torch-backend", self.torch_backend)]
        given += [("--exclude-newer-package", f"{name}={date}") for name, date in self.but]
        return [part for name, value in given if value for part in (name, value)]


@dataclass(frozen=True)
class Compiler:
    """Resolves one request; each call is one or a few runs of uv."""

    want: Wanted
    index: IndexSettings
    work: Work
    uv: Callable[..., str] = run_uv
    """Runs uv as ``run_uv`` does, in a container perhaps."""

    def resolved(
        self, python: Python, source: set[str] | None, extra: Extra = Extra()
    ) -> tuple[Sequence[str], Sequence[str]]:
        """(pinned requirements with hashes, names of azureml packages that were left out).

        Args:
            python: For which.
            source: Projects that may be built from source; None: all.
            extra: What else to ask of uv.

        Raises:
            UvFailed: the list does not fit, or uv cannot work.
        """
        excluded = {*_AZUREML, *(python.provided if isinstance(python, Planned) else ())}
        found: list[str] = []
        for _ in range(_MOST_ROUNDS):
            out = self._compile(python, self.want.requirements, source, extra, excluded, ("--generate-hashes",))
            pins = [" ".join(line.split()) for line in out.replace("\\\n", " ").splitlines() if line.strip()]
            more = sorted({requirement_name(pin) for pin in pins if is_azureml(pin)})
            if not more:
                return sorted(with_asked_hashes(pins, self.want.requirements)), found
            found += more
            excluded |= set(more)
        raise EnvironmentFailed(f"azureml packages keep coming in as dependencies: {', '.join(found)}.",
                                "Leave out the package that needs them.")  # fmt: skip

    def alone(
        self, python: Python, requirements: Sequence[str], source: set[str] | None, extra: Extra = Extra()
    ) -> UvFailed | None:
        """None when these requirements can be had without their dependencies, else why not."""
        try:
            self._compile(python, requirements, source, extra, set(), ("--no-deps",))
        except UvFailed as failure:
            return failure
        return None

    def _compile(
        self,
        python: Python,
        requirements: Sequence[str],
        source: set[str] | None,
        extra: Extra,
        excluded: set[str],
        more: Sequence[str],
    ) -> str:
        want, config = self.want, uv_config(requirements, self.index.environment)
        with (
            memory_file("\n".join((*want.options, *requirements)) + "\n") as packages,
            memory_file("\n".join(sorted(excluded)) + "\n") as excludes,
            memory_file("\n".join(want.build_constraints) + "\n") as constraints,
            memory_file(config or "") as settings_file,
        ):
            argv = ["pip", "compile", packages.path, "--excludes", excludes.path, *_for(python)]
            argv += ["--no-header", "--no-annotate", *more, *extra.options, *self.index.options]
            if source is not None:
                argv += ["--only-binary", ":all:"]
                argv += [part for name in sorted(source) for part in ("--no-binary", name)]
            argv += ["--build-constraints", constraints.path] if want.build_constraints else []
            argv += ["--config-file", settings_file.path] if config else []
            argv += ["--refresh"] if self.work.anew else []  # what the index said minutes ago is asked again
            # Quiet: failing is part of the search; what counts of it is told where that ends.
            return self.uv(
                argv, self.index, self.work, asked=requirements, python_version=python.version,
                files=(packages, excludes, constraints, settings_file), quiet=True,
            )  # fmt: skip


def _for(python: Python) -> Sequence[str]:
    if isinstance(python, Interpreter) and not isinstance(python, Planned):
        return ["--python", python.path]
    platform = ["--python-platform", python.wheels_for] if python.wheels_for else []
    stand_in = python.stand_in if isinstance(python, Planned) else None
    return ["--python", stand_in or own().path, "--python-version", python.version, *platform]
