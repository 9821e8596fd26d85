"""What uv says when it fails, as one message that names the package, quotes the reason, and says what to do."""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Sequence

from windlassd.envs._requirements import requirement_name
from windlassd.envs.base import EnvironmentFailed

_LONGEST_QUOTE = 1500
_UNREACHABLE = re.compile(
    r"error sending request|dns error|tcp connect|connection (?:refused|reset|closed)|timed? ?out|"
    r"network (?:is )?unreachable|"
    r"network was disabled|error decoding response body|\b(?:429|50[0234])\b \w+",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"\b(?:401|403)\b (?:Unauthorized|Forbidden)|invalid credentials", re.IGNORECASE)
_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_HOST = re.compile(r"https?://(?:[^/\s@]*@)?([^/\s)`]+)")
_BUILD = re.compile(r"Failed to (?:build|download and build|prepare distributions)[^`]*`([^`]+)`")
_CHANGED = re.compile(r"Hash mismatch for `([^`]+)`")
_PARSE = re.compile(r"Couldn't parse requirement|Failed to parse|Unexpected '")
_ABSENT = re.compile(r"(?:Because |and |^)([\w.-]+) was not found in")
_UNBUILT = re.compile(r"Wheels are required for `([^`]+)`")
_VERSION = re.compile(r"there (?:is|are) no versions? of ([\w.-]+(?:\[[^]]*\])?\S*?)(?: and|,| we|$)", re.MULTILINE)

# Import names and old names that people ask pip for → what PyPI calls them.
_CONFUSED = {
    "sklearn": "scikit-learn", "cv2": "opencv-python-headless", "opencv": "opencv-python-headless", "pil": "pillow",
    "yaml": "pyyaml", "bs4": "beautifulsoup4", "skimage": "scikit-image", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "attr": "attrs", "crypto": "pycryptodome", "git": "gitpython", "jwt": "pyjwt",
    "pytorch": "torch", "serial": "pyserial", "mx": "mxnet", "tensorflow-gpu": "tensorflow", "usb": "pyusb",
    "wx": "wxpython", "zmq": "pyzmq", "magic": "python-magic", "pandas-profiling": "ydata-profiling",
}  # fmt: skip
_COMMON = (
    "accelerate", "altair", "bokeh", "catboost", "chainer", "dask", "datasets", "fastapi", "flask", "gensim", "h5py",
    "horovod", "joblib", "jupyter", "keras", "lightgbm", "matplotlib", "mlflow", "mpi4py", "nltk", "numba", "numpy",
    "onnx", "onnxruntime", "opencv-python", "optuna", "pandas", "pillow", "plotly", "psutil", "pyarrow", "pydantic",
    "pytest", "pyyaml", "ray", "requests", "scikit-image", "scikit-learn", "scipy", "seaborn", "spacy", "sqlalchemy",
    "statsmodels", "tensorboard", "tensorflow", "tokenizers", "torch", "torchaudio", "torchvision", "tqdm",
    "transformers", "xgboost",
)  # fmt: skip


class UvFailed(EnvironmentFailed):
    """uv failed; what it said tells whether another interpreter may do better."""

    def __init__(self, message: str, error: str, *, transient: bool = False, hopeless: bool = False) -> None:
        super().__init__(message, transient=transient)
        self.hopeless = hopeless or transient or bool(_PARSE.search(error)) or _is_nowhere(error)
        self.reason = _reason(error)
        self.unbuilt = tuple(dict.fromkeys(name.lower() for name in _UNBUILT.findall(error)))


def killed(number: int) -> UvFailed:
    """The error when uv was ended by a signal instead of failing."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " That is also how the kernel ends a process when memory runs out." if number == signal.SIGKILL else ""
    return UvFailed(f"uv was ended by {name} while it made the environment.{hint} Submit again.", "", transient=True)


def failure(error: str, requirements: Sequence[str], python_version: str) -> UvFailed:
    """The error for uv's (masked) standard error text."""
    if _FULL.search(error):
        said = "The disk is full while the environment is made."
        step = "Free some space (the environments and uv's cache take most) and submit again."
        return UvFailed(_quoted(said, error, step), error, transient=True)
    if _REFUSED.search(error):
        said = f"The package index{_host(error)} refuses access."
        step = "Check the credentials in PIP_INDEX_URL or ~/.netrc of the user who runs the server."
        return UvFailed(_quoted(said, error, step), error, hopeless=True)
    if _UNREACHABLE.search(error):
        said = f"The package index{_host(error)} could not be reached."
        step = "Check the network and the index settings (PIP_INDEX_URL, pip.conf), then submit again."
        return UvFailed(_quoted(said, error, step), error, transient=True)
    said, step = _wrong_packages(error, requirements, f"Python {python_version}")
    return UvFailed(_quoted(said, error, step), error)


def readable(text: str) -> str:
    """uv's text with our words for the nameless files it was given."""
    return re.sub(r"`?/proc/self/fd/\d+`?", "the package list", text)


def suggestion(name: str) -> str:
    """ " Did you mean 'x'?" for a name that is commonly confused or misspelt, or an empty string."""
    known = _CONFUSED.get(name.lower())
    if known is None and name.lower() not in _COMMON:
        close = difflib.get_close_matches(name.lower(), _COMMON, n=1, cutoff=0.75)
        known = close[0] if close else None
    return f" Did you mean {known!r}?" if known else ""


def _is_nowhere(error: str) -> bool:
    """True when a package or version does not exist at all, for any interpreter."""
    if _ABSENT.search(error):
        return True
    depends = re.search(r"usable wheels|Python[<>=]|Python version|Wheels are required", error)
    return bool(_VERSION.search(error)) and not depends and not re.search(r"depends? on", error)


def _reason(error: str) -> str:
    """uv's first sentence of why, on one line."""
    cause = re.search(r"cause: (.*?)(?:, we can conclude|\n\s*hint:|\Z)", error, re.DOTALL)
    text = " ".join((cause.group(1) if cause else error).split())
    return text if len(text) <= 200 else text[:197] + "…"


def _wrong_packages(error: str, requirements: Sequence[str], on: str) -> tuple[str, str]:
    """(what is wrong with which package, what to do)."""
    loosen = "Loosen the version, or ask for another python_version."
    if _PARSE.search(error):
        return "A package requirement cannot be read.", "Write it like 'numpy', 'numpy==1.26.4' or 'numpy>=1.20,<2'."
    if absent := _ABSENT.search(error):
        name = absent.group(1)
        step = "Correct the name, or set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS where the server runs."
        return f"The package {name!r} cannot be found for {on}.{suggestion(name)}", step
    if built := _BUILD.search(error):
        hint = suggestion(requirement_name(built.group(1)))
        step = "Ask for a version that has a wheel for this Python, or for another python_version."
        return f"The package {built.group(1)!r} cannot be built for {on}.{hint}", step
    if changed := _CHANGED.search(error):
        step = "If the index published it anew on purpose, ask for another version, or lower environment_ttl_s once."
        return f"The file of {changed.group(1)!r} is not the one that was locked (its hash differs).", step
    if version := _VERSION.search(error):
        return f"No version of {version.group(1)!r} can be had for {on}.", loosen
    if "No solution found" not in error:
        step = "Submit again; if it stays so, the lines above tell what to mend on the machine that runs the server."
        return f"uv could not make the environment for {on}.", step
    named = [text for text in requirements if re.search(rf"\b{re.escape(requirement_name(text) or text)}\b", error)]
    return f"The packages {', '.join(map(repr, named or requirements))} do not fit together on {on}.", loosen


def _quoted(said: str, error: str, step: str) -> str:
    return f"{said} uv says:\n{_compact(error)}\n{step}"


def _compact(error: str) -> str:
    """The lines that say something, each once, the end kept when it is long."""
    text = error.replace("we can conclude that your requirements are unsatisfiable", "that cannot be satisfied")
    lines = [line.rstrip() for line in readable(text).splitlines() if line.strip() and not line.startswith("Using ")]
    quote = "\n".join(dict.fromkeys(lines))
    if len(quote) > _LONGEST_QUOTE:
        quote = quote[: _LONGEST_QUOTE // 2] + "\n  …\n" + quote[-_LONGEST_QUOTE // 2 :]
    return quote or "nothing"


def _host(error: str) -> str:
    match = _HOST.search(error)
    return f" at {match.group(1)}" if match else ""
