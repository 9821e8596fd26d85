"""Every error of Windlass.

::

    Exception
    └── AzureMLException                      v1's root; ``message``, ``error_code``, ``inner_exception``
        ├── UserErrorException                the request is wrong
        │   ├── AuthenticationException       who asks is not known or not allowed
        │   ├── DatasetValidationError        a dataset's data is not what the call needs
        │   ├── DatasetExecutionError         a dataset's data cannot be read
        │   ├── WorkspaceException            a workspace is absent or cannot be made
        │   │   └── WorkspacePrivateEndpointException
        │   └── NotOffered                    a v1 name or option that Windlass does not have
        ├── ProjectSystemException            a folder is not attached to a workspace
        ├── DiscoveryUrlNotFoundException     an address of the workspace is not known
        ├── ComputeTargetException            a compute target is absent or wrong
        ├── ExperimentExecutionException      submit could not be carried out
        ├── RunEnvironmentException           no run context, or it cannot be reached
        ├── RunConfigurationException         a run configuration is wrong
        ├── TrainingException                 an estimator's arguments do not fit together
        ├── ActivityFailedException           the run ended as Failed or Canceled; ``error_details``
        ├── ParallelRunException              a part of a parallel run failed
        ├── SnapshotException                 the source folder cannot be taken or restored
        │   └── SnapshotTooLarge
        ├── DatasetTimestampMissingError      a time series was asked of a dataset without time stamps
        ├── ModelPathNotFoundException        the model path is in no output of the run
        ├── WebserviceException               a service cannot be made or reached; ``status_code``
        │   └── ModelNotFoundException        no such model: v1's ``Model(ws, name)`` raised WebserviceException
        ├── AzureMLAggregatedException        several errors at once; ``exceptions``
        └── ServiceException                  the backend failed; ``status_code``
            └── ServiceUnavailable            the server could not answer; ``transient``: try again

"Your request is wrong" (all but the last two) is apart from "the backend failed" (ServiceException). v1's names take
v1's arguments. A message says what was wrong, which value, what is allowed and the next step.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Type


class AzureMLException(Exception):
    """Root of all errors; v1's ``azureml.exceptions.AzureMLException``.

    Args:
        exception_message: The whole sentence a user sees.
        inner_exception: The exception behind this one.
        target: What the error is about.
        details: More errors, or whatever the raiser knows.
        message_format: Makes the message out of ``message_parameters`` when ``exception_message`` is empty.
        message_parameters: Values for ``message_format``.
        reference_code: Where in the code it was raised.
        kwargs: ``next_step``, a sentence to add to the message, and ``error_code``, machine-readable in snake_case.
    """

    error_code = "error"
    transient = False
    target: "Optional[str]" = None
    details: Any = None
    message_format: "Optional[str]" = None
    message_parameters: "Optional[Mapping[str, Any]]" = None
    reference_code: "Optional[str]" = None
    _inner: "Optional[BaseException]" = None

    def __init__(
        self, exception_message: str, inner_exception: "Optional[BaseException]" = None,
        target: "Optional[str]" = None, details: Any = None, message_format: "Optional[str]" = None,
        message_parameters: "Optional[Mapping[str, Any]]" = None, reference_code: "Optional[str]" = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self._set_text(_text(exception_message, message_format, message_parameters, kwargs.pop("next_step", None)))
        code = kwargs.pop("error_code", None)
        self.error_code = self.error_code if code is None else code
        self._inner, self.target, self.details = inner_exception, target, details
        self.message_format, self.message_parameters = message_format, message_parameters
        self.reference_code = reference_code
        if kwargs:
            raise TypeError("%s got an unexpected argument %r" % (type(self).__name__, next(iter(kwargs))))

    @property
    def message(self) -> str:
        """What is shown."""
        return self._text

    @property
    def inner_exception(self) -> "Optional[BaseException]":
        """The exception behind this one, if any."""
        return self._inner

    def print_stacktrace(self) -> None:
        """Print where this error, or the one that is being handled, came from."""
        import traceback

        traceback.print_exception(type(self), self, self.__traceback__)

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.args, self.__dict__)

    def _set_text(self, text: str) -> None:
        super().__init__(text)
        self._text = text


class UserErrorException(AzureMLException):
    """The call or one of its values is wrong."""

    error_code = "user_error"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class AuthenticationException(UserErrorException):
    """Who asks is not known, or not allowed."""

    error_code = "authentication"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class DatasetValidationError(UserErrorException):
    """A dataset's data is not what the call needs."""

    error_code = "dataset_validation"
    validation_error_code: "Optional[str]" = None
    compliant_message = AzureMLException.message  # v1's had the user's data left out

    def __init__(self, message: str, exception: "Optional[BaseException]" = None) -> None:
        super().__init__(message, inner_exception=exception)


class DatasetExecutionError(UserErrorException):
    """A dataset's data cannot be read."""

    error_code = "dataset_execution"
    validation_error_code: "Optional[str]" = None
    compliant_message = AzureMLException.message  # v1's had the user's data left out

    def __init__(self, message: str, exception: "Optional[BaseException]") -> None:
        super().__init__(message, inner_exception=exception)


class NotOffered(UserErrorException):
    """A v1 name or option that Windlass does not offer (SPEC section 15) or does not offer yet."""

    error_code = "not_offered"


class WorkspaceException(UserErrorException):
    """A workspace is absent or cannot be made; ``found_multiple`` when its name is not unique."""

    error_code = "workspace"
    found_multiple = False

    def __init__(self, exception_message: str, found_multiple: bool = False, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)
        self.found_multiple = found_multiple


class WorkspacePrivateEndpointException(WorkspaceException):
    """v1's error of a private endpoint; Windlass has none and never raises it."""

    error_code = "workspace_private_endpoint"

    def __init__(self, exception_message: str, found_multiple: bool = False, **kwargs: Any) -> None:
        super().__init__(exception_message, found_multiple, **kwargs)


class ProjectSystemException(AzureMLException):
    """A folder is not attached to a workspace."""

    error_code = "project_system"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class DiscoveryUrlNotFoundException(AzureMLException):
    """An address of the workspace is not known."""

    error_code = "discovery_url_not_found"

    def __init__(self, discovery_key: str, **kwargs: Any) -> None:
        super().__init__("The workspace has no address %r." % (discovery_key,), **kwargs)


class ComputeTargetException(AzureMLException):
    """A compute target is absent or cannot be what was asked."""

    error_code = "compute_target"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class ExperimentExecutionException(AzureMLException):
    """``submit`` could not be carried out."""

    error_code = "experiment_execution"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class RunEnvironmentException(AzureMLException):
    """There is no run context here, or it cannot be used."""

    error_code = "run_environment"

    def __init__(self, exception_message: str = "There is no run here.", **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class RunConfigurationException(AzureMLException):
    """A run configuration is wrong."""

    error_code = "run_configuration"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class TrainingException(AzureMLException):
    """An estimator's arguments do not fit together."""

    error_code = "training"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class ActivityFailedException(AzureMLException):
    """The run ended as Failed or Canceled; ``error_details`` is its ``get_details()['error']``.

    The message is ``exception_message`` where one is given, else the details themselves.
    """

    error_code = "activity_failed"
    error_details: Any = None

    def __init__(self, error_details: Any, **kwargs: Any) -> None:
        super().__init__(kwargs.pop("exception_message", None) or str(error_details), **kwargs)
        self.error_details = error_details


class ParallelRunException(AzureMLException):
    """A part of a parallel run failed; ``delay_seconds`` until it may be tried again."""

    error_code = "parallel_run"
    code: Any = None
    delay_seconds: float = 0

    def __init__(self, exception_message: str, code: Any = None, delay_seconds: float = 0, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)
        self.code, self.delay_seconds = code, delay_seconds


class SnapshotException(AzureMLException):
    """The source folder cannot be taken or brought back."""

    error_code = "snapshot"

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)


class SnapshotTooLarge(SnapshotException):
    """The source folder is over the limit; the message names its largest paths."""

    error_code = "snapshot_too_large"


class DatasetTimestampMissingError(AzureMLException):
    """A time series was asked of a dataset without time stamps."""

    error_code = "dataset_timestamp_missing"
    error_details: Any = None

    def __init__(self, error_details: Any, **kwargs: Any) -> None:
        super().__init__(kwargs.pop("exception_message", None) or str(error_details), **kwargs)
        self.error_details = error_details


class ModelPathNotFoundException(AzureMLException):
    """No kept file of the run lies at the model path."""

    error_code = "model_path_not_found"

    def __init__(self, exception_message: str, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(exception_message, **kwargs)
        _tell(logger, self)


class WebserviceException(AzureMLException):
    """A service cannot be made or reached; ``status_code`` is the answer's, where there was one."""

    error_code = "webservice"
    status_code: "Optional[int]" = None

    def __init__(
        self, exception_message: str, status_code: "Optional[int]" = None, logger: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(exception_message, **kwargs)
        self.status_code = status_code
        _tell(logger, self)


class ModelNotFoundException(WebserviceException):
    """No model of that name or version."""

    error_code = "model_not_found"
    status_code = 404

    def __init__(self, exception_message: str, logger: Any = None, **kwargs: Any) -> None:
        super().__init__(exception_message, self.status_code, logger, **kwargs)


class AzureMLAggregatedException(AzureMLException):
    """Several errors at once; ``exceptions`` are they."""

    error_code = "aggregated"
    exceptions: "List[BaseException]" = []

    def __init__(self, exceptions_list: "Iterable[BaseException]", **kwargs: Any) -> None:
        listed = list(exceptions_list)
        super().__init__("\n".join(str(one) for one in listed), **kwargs)
        self.exceptions = listed


class ServiceException(AzureMLException):
    """The backend failed; ``status_code`` is its answer's, where there was one."""

    error_code = "service"
    status_code: "Optional[int]" = None

    def __init__(self, error_response_exception: Any, **kwargs: Any) -> None:
        inner = error_response_exception if isinstance(error_response_exception, BaseException) else None
        super().__init__(str(error_response_exception), inner, **kwargs)
        response = getattr(error_response_exception, "response", None)
        self.status_code = getattr(response, "status_code", None)


class ServiceUnavailable(ServiceException):
    """The workspace server could not be reached or failed; ``transient`` when trying again may help."""

    error_code = "service_unavailable"
    transient = True

    def __init__(self, exception_message: str, next_step: "Optional[str]" = None, transient: bool = True) -> None:
        super().__init__(exception_message, next_step=next_step)
        self.transient = transient


def _text(
    message: str, message_format: "Optional[str]", parameters: "Optional[Mapping[str, Any]]", next_step: "Optional[str]"
) -> str:
    if not message and message_format:
        message = message_format.format(**(parameters or {}))
    return message if not next_step else "%s %s" % (message, next_step)


def _tell(logger: Any, problem: AzureMLException) -> None:
    """v1 wrote the message to the logger that came with it."""
    if logger is not None:
        logger.error(problem.message)


def _rebuild(kind: "Type[AzureMLException]", args: "Any", state: "Dict[str, Any]") -> AzureMLException:
    """The error as it was pickled: constructors differ, what they keep does not."""
    problem = kind.__new__(kind, *args)
    problem.args = args
    problem.__dict__.update(state)
    return problem


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
    if kind is None:
        return UserErrorException(message, error_code=code)
    problem = kind.__new__(kind)
    problem._set_text(message)  # v1's constructors make their own messages out of other arguments
    return problem


def did_you_mean(name: str, known: "Iterable[str]") -> str:
    """ " Did you mean 'x' or 'y'?" for the names closest to ``name``, or an empty string."""
    import difflib  # here, since most programs never make a mistake

    close = difflib.get_close_matches(name.lower(), {k.lower(): k for k in known}, n=3, cutoff=0.6)
    if not close:
        return ""
    back = {k.lower(): k for k in known}
    return " Did you mean %s?" % " or ".join(repr(back[c]) for c in close)
