"""Every error of Windlass.

::

    Exception
    └── AzureMLException                    v1's root; ``message``, ``error_code``, ``next_step``
        ├── UserErrorException              the request is wrong
        │   └── NotOffered                  a v1 name or option that Windlass does not have
        ├── ComputeTargetException          a compute target is absent or wrong
        ├── ExperimentExecutionException    submit could not be carried out
        ├── RunEnvironmentException         no run context, or it cannot be reached
        ├── SnapshotException               the source folder cannot be taken or restored
        │   └── SnapshotTooLarge
        ├── ModelNotFoundException
        ├── ModelPathNotFoundException      the model path is in no output of the run
        ├── TrainingException               an estimator's arguments do not fit together
        ├── RunConfigurationException
        ├── ActivityFailedException         the run ended as Failed or Canceled
        └── ServiceUnavailable              the server could not answer; ``transient``: try again

"Your request is wrong" (all but the last) is apart from "the backend failed" (ServiceUnavailable). A message says what
was wrong, which value, what is allowed and the next step.
"""

from __future__ import annotations

from typing import Dict, Iterable, Optional, Type


class AzureMLException(Exception):
    """Root of all errors; v1's ``azureml.exceptions.AzureMLException``.

    Args:
        exception_message: The whole sentence a user sees.
        next_step: What to do about it, when the message does not already say.
        error_code: Machine-readable, snake_case.
    """

    error_code = "error"
    transient = False

    def __init__(
        self, exception_message: str = "", next_step: "Optional[str]" = None, error_code: "Optional[str]" = None
    ) -> None:
        text = exception_message if not next_step else "%s %s" % (exception_message, next_step)
        super().__init__(text)
        self.message = text
        if error_code is not None:
            self.error_code = error_code

    def __str__(self) -> str:
        return self.message


class UserErrorException(AzureMLException):
    """The call or one of its values is wrong."""

    error_code = "user_error"


class NotOffered(UserErrorException):
    """A v1 name or option that Windlass does not offer (SPEC section 15) or does not offer yet."""

    error_code = "not_offered"


class ComputeTargetException(AzureMLException):
    """A compute target is absent or cannot be what was asked."""

    error_code = "compute_target"


class ExperimentExecutionException(AzureMLException):
    """``submit`` could not be carried out."""

    error_code = "experiment_execution"


class RunEnvironmentException(AzureMLException):
    """There is no run context here, or it cannot be used."""

    error_code = "run_environment"


class SnapshotException(AzureMLException):
    """The source folder cannot be taken or brought back."""

    error_code = "snapshot"


class SnapshotTooLarge(SnapshotException):
    """The source folder is over the limit; the message names its largest paths."""

    error_code = "snapshot_too_large"


class ModelNotFoundException(AzureMLException):
    """No model of that name or version."""

    error_code = "model_not_found"


class ModelPathNotFoundException(AzureMLException):
    """No kept file of the run lies at the model path."""

    error_code = "model_path_not_found"


class TrainingException(AzureMLException):
    """An estimator's arguments do not fit together."""

    error_code = "training"


class RunConfigurationException(AzureMLException):
    """A run configuration is wrong."""

    error_code = "run_configuration"


class ActivityFailedException(AzureMLException):
    """The run ended as Failed or Canceled; ``error_details`` is its ``get_details()['error']``."""

    error_code = "activity_failed"

    def __init__(self, exception_message: str = "", error_details: "Optional[object]" = None) -> None:
        super().__init__(exception_message)
        self.error_details = error_details


class ServiceUnavailable(AzureMLException):
    """The workspace server could not be reached or failed; ``transient`` when trying again may help."""

    error_code = "service_unavailable"

    def __init__(self, exception_message: str = "", next_step: "Optional[str]" = None, transient: bool = True) -> None:
        super().__init__(exception_message, next_step)
        self.transient = transient


def _by_code(root: "Type[AzureMLException]") -> "Dict[str, Type[AzureMLException]]":
    """The classes of this file by code: those of the server's own rooms share codes and stay on its side."""
    found = {root.error_code: root}
    for sub in root.__subclasses__():
        if sub.__module__ == __name__:
            found.update(_by_code(sub))
    return found


def from_code(code: str, message: str) -> AzureMLException:
    """The error that a server answered with ``code``; one that this version does not know is a wrong request."""
    kind = _by_code(AzureMLException).get(code)
    return kind(message) if kind is not None else UserErrorException(message, error_code=code)


def did_you_mean(name: str, known: "Iterable[str]") -> str:
    """" Did you mean 'x' or 'y'?" for the names closest to ``name``, or an empty string."""
    import difflib  # here, since most programs never make a mistake

    close = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=3, cutoff=0.6)
    if not close:
        return ""
    back = {k.lower(): k for k in known}
    return " Did you mean %s?" % " or ".join(repr(back[c]) for c in close)
