"""What uv says when it fails, as one message that names the package, quotes the reason, and says what to do."""

from __future__ import annotations

import difflib
import re
import signal
import sys
from collections.abc import Callable, Sequence

from windlassd.envs._requirements import requirement_name
from windlassd.envs._uv_builds import build_error, without_output
from windlassd.envs._uv_conflict import conflict, wanted_by
from windlassd.envs.base import EnvironmentFailed

_MOST_LINES = 8
_MOST_DETAILS = 2
_LONGEST_LINE = 300
_MOST_TEXT = 100_000
_UNREACHABLE = re.compile(
    r"error sending request|dns error|tcp connect|connection (?:refused|reset|closed)|timed? ?out|"
    r"network (?:is )?unreachable|network was disabled|error decoding response body|body from connection|"
    r"Failed to connect to|Could not resolve host|Couldn't connect to server|invalid peer certificate|"
    r"\((?:408|429|50\d) [A-Z]",
    re.IGNORECASE,
)
_NO_NETWORK = re.compile(r"error sending request|dns error|tcp connect", re.IGNORECASE)
_CERTIFICATE = re.compile(r"invalid peer certificate|tls handshake", re.IGNORECASE)
_BUSY = re.compile(r"\b(408|429|50\d)\b (Too Many Requests|[A-Z]\w+(?: [A-Z]\w+)*)")
_REFUSED = re.compile(r"\b(40[137]) (Unauthorized|Forbidden|Proxy)|invalid credentials|Authentication failed", re.I)
_GONE = re.compile(r"\b(?:404|410) (?:Not Found|Gone)\)? for url \(([^)]+)\)|Distribution not found at: (\S+)")
_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_BROKEN = re.compile(r"structure of `([^`]+)` \(v([^)]+)\) was invalid:\s*([^\n]*)|"
                     r"Failed to (?:extract|unpack|read)[^`\n]*`([^`]+)`()([^\n]*)")  # fmt: skip
_HOST = re.compile(r"https?://(?:[^/\s@]*@)?([^/\s)`]+)")
_BUILD = re.compile(r"Failed to (?:build|download and build|prepare distributions)[^`]*`([^`]+)`")
_GIT = re.compile(r"cause: Git operation failed")
_GIT_ADDRESS = re.compile(r"Failed to [^`\n]*`([^`]+)`")
_BUILD_BROKE = re.compile(r"The build backend returned an error|Git operation failed")
_DAMAGED = re.compile(r"Failed to install: \S+ \(([^)]+)\)\s+cause: (?!.*No space)")
_CHANGED = re.compile(r"Hash mismatch for `([^`]+)`")
_HASHES = re.compile(r"(?:Expected|Computed):\s*(\w+:[0-9a-f]+)")
_PARSE = re.compile(r"Couldn't parse requirement|Failed to parse|Unexpected '")
_ABSENT = re.compile(r"(?:Because |and |^)([\w.-]+) was not found in")
_UNBUILT = re.compile(r"Wheels are required for `([^`]+)`")
_UNWHEELED = re.compile(r"([\w.-]+==\w[\w.!+-]*) has no (?:usable wheels|wheels with a matching)")
_BY_PYTHON = re.compile(r"usable wheels|Python[<>=]|Python version|Wheels are required|wheels with a matching")
_VERSION = re.compile(r"there (?:is|are) no versions? of ([\w.-]+(?:\[[^]]*\])?\S*?)(?: and|,| we|$)", re.MULTILINE)
_ONLY = re.compile(r"[Bb]ecause only ([\w.-]+?)([=<>]\S+) is available and you require (\S+?),")
_PRE_RELEASE = re.compile(r"\d(?:a|b|rc|\.?dev)\d*\Z")
_PYTHON = re.compile(r"([\w.-]+)(\S*) requires Python ([<>=!~]\S+)")
_NO_WHEELS = re.compile(r"([\w.-]+)(\S*) has no (?:usable wheels|wheels with a matching (Python|platform)[^(]*)")
_TAGS = re.compile(r"following (?:Python (?:ABI|implementation) tags?|platforms?): ([^\n]+)")
_CURRENT = re.compile(r"does not satisfy Python>=?([\d.]*\d) and ")
_LAST_ASKED = re.compile(r"you require (\S+?), we can conclude that your requirements")
_ON = re.compile(r",? (?:for|on|and this is) Python \d+\.\d+\.\d+")
_LOGINS = (
    "A login goes into ~/.netrc (machine, login, password) or into the index-url of pip.conf of the user who runs the "
    "server, which are read anew each time; for PIP_INDEX_URL restart the server (`windlass server stop`)."
)

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
        self.said = readable(error)
        """uv's own words, for the log."""
        self.refused = bool(_REFUSED.search(error))
        """An index wants a login, or another one."""
        absent = _ABSENT.search(error) or _VERSION.search(error)
        self.unreachable = transient and bool(_NO_NETWORK.search(without_output(error)))
        """No index answered at all."""
        damaged = _DAMAGED.search(error)
        self.damaged = damaged.group(1) if damaged else None
        """The package whose copy in uv's cache cannot be installed."""
        self.missing = absent.group(1) if absent else None
        """What was found on no index."""
        absent = _ABSENT.search(error)
        self.absent = requirement_name(absent.group(1)) if absent else None
        """A project that the index does not know."""
        self.brief = _ON.sub("", message.partition(" uv says:")[0].partition("\n")[0]).rstrip(".")
        """What is wrong, on one line, without the Python it is wrong on."""
        self.details = [line for line in message.splitlines()[1:-1] if line.startswith("  ")][:_MOST_DETAILS]
        """Lines that say more of it."""
        self.unbuilt = tuple(dict.fromkeys(name.lower() for name in _UNBUILT.findall(error)))
        """Names of what would have to be built from source."""
        self.unwheeled = tuple(dict.fromkeys(_UNWHEELED.findall(error)))
        """What of it has no wheels for this Python, such as ``pillow==5.4.1``."""
        self.build_failed = bool(_BUILD.search(error) and _BUILD_BROKE.search(error))
        self.by_python = bool(_BY_PYTHON.search(error))
        """True when another Python may do better."""


def killed(number: int) -> UvFailed:
    """The error when uv was ended by a signal instead of failing."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " That is also how the kernel ends a process when memory runs out." if number == signal.SIGKILL else ""
    return UvFailed(f"uv was ended by {name} while it made the environment.{hint} Submit again.", "", transient=True)


def failure(
    error: str, requirements: Sequence[str], python_version: str, has_login: Callable[[str], bool] = lambda host: False
) -> UvFailed:
    """The error for uv's (masked) standard error text.

    Args:
        error: The text.
        requirements: What was asked for.
        python_version: Of the interpreter it was asked for.
        has_login: Whether a login for a host is set.
    """
    if len(error) > _MOST_TEXT:
        error = f"{error[: _MOST_TEXT // 2]}\n…\n{error[-_MOST_TEXT // 2 :]}"
    own = without_output(error)
    if _FULL.search(error):
        said = "The disk is full while the environment is made."
        step = "Free some space (the environments and uv's cache take most) and submit again."
        return UvFailed(_quoted(said, own, step), error, transient=True)
    if (refused := _REFUSED.search(own)) and not _BUILD_BROKE.search(own):
        return UvFailed(_refused(own, refused, has_login), error, hopeless=True)
    if _UNREACHABLE.search(own) and not _BUILD_BROKE.search(own):
        return UvFailed(_unreachable(own), error, transient=True)
    if broken := _BROKEN.search(own):
        name, version, how = (broken.group(1) or broken.group(4), broken.group(2) or "", broken.group(3) or "")
        package = f"{name}=={version}" if version else name
        said = f"The file of {package!r} that came from the index is broken{': ' if how else '.'}{how.strip()}"
        project = name.partition("=")[0]
        step = f"Submit again; if it stays so, run `uv cache clean {project}`, or ask for another version."
        return UvFailed(_quoted(said, "", step), error, transient=True)
    return UvFailed(_wrong_packages(error, own, requirements, f"Python {python_version}"), error)


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
    depends = _BY_PYTHON.search(error)
    return bool(_VERSION.search(error)) and not depends and not re.search(r"depends? on", error)


def _reason(error: str) -> str:
    """uv's first sentence of why, on one line."""
    cause = re.search(r"cause: (.*?)(?:, we can conclude|\n\s*hint:|\Z)", error, re.DOTALL)
    text = " ".join((cause.group(1) if cause else error).split())
    return text if len(text) <= 200 else text[:197] + "…"


def _refused(own: str, refused: re.Match[str], has_login: Callable[[str], bool]) -> str:
    """The message for an index that wants a login, or another one."""
    host = _host(own)
    status = f" ({refused.group(1)} {refused.group(2)})" if refused.group(1) else ""
    if host and has_login(host):
        why = f"the login that is set for {host} is wrong, has expired, or may not read this package"
    else:
        why = f"it asks for a login, and none is set for {host or 'it'}"
    return _quoted(f"The package index{_at(host)} refuses access{status}: {why}.", "", _LOGINS)


def _unreachable(own: str) -> str:
    """The message for an index that cannot be had now."""
    host = _host(own)
    if _CERTIFICATE.search(own):
        said = f"The package index{_at(host)} could not be reached: its certificate is not trusted."
        step = (
            "Set PIP_CERT, or cert in pip.conf, to the file of its certificate authority where the server runs; for a "
            "certificate that is signed by itself set PIP_TRUSTED_HOST to its host."
        )
    elif busy := _BUSY.search(own):
        why = "asks to be left alone for a while" if busy.group(1) == "429" else "has trouble of its own"
        said = f"The package index{_at(host)} {why}: it answers {busy.group(1)} {busy.group(2)}, also when asked again."
        step = "Submit again later. What was built before works without it."
    else:
        said = f"The package index{_at(host)} could not be reached."
        step = (
            "Check the network and the index settings (PIP_INDEX_URL, pip.conf), then submit again. Without the "
            "network works what was built before, or whose packages are all in uv's cache; these are not."
        )
    return _quoted(said, own, step)


def _wrong_packages(error: str, own: str, requirements: Sequence[str], on: str) -> str:
    """The message when a package is at fault."""
    loosen = "Loosen the version, or ask for another python_version."
    if _PARSE.search(own):
        said, step = (
            "A package requirement cannot be read.",
            "Write it like 'numpy', 'numpy==1.26.4' or 'numpy>=1.20,<2'.",
        )
        return _quoted(said, own, step)
    if absent := _ABSENT.search(own):
        return _absent(absent.group(1), own, requirements, on)
    if gone := _GONE.search(own):
        said = f"The file {gone.group(1) or gone.group(2)} is not there."
        step = (
            "Correct its address if you gave it; else ask for another version: the index lists what it does not have."
        )
        return _quoted(said, "", step)
    if _GIT.search(own):
        return _no_clone(error, own)
    if built := _BUILD.search(own):
        return _unbuilt(built.group(1), error, on)
    if changed := _CHANGED.search(own):
        said = f"The file of {changed.group(1)!r} is not the one that was locked (its hash differs)."
        said += "".join(
            f"\n  {what}: {value}" for what, value in zip(("locked", "came"), _HASHES.findall(own), strict=False)
        )
        step = "Submit again to lock what the index has now, if that is meant to be; else ask for another version."
        return _quoted(said, "", step)
    if damaged := _DAMAGED.search(own):
        name = requirement_name(damaged.group(1))
        step = f"Ask for another version; if the index has mended its file, run `uv cache clean {name}` first."
        return _quoted(f"The wheel of {damaged.group(1)!r} cannot be installed.", own, step)
    if not re.search(r"No solution found|[Bb]ecause ", own):
        step = "Submit again; if it stays so, the lines above tell what to mend on the machine where it is made."
        return _quoted(f"uv could not make the environment for {on}.", own, step)
    return _no_solution(own, requirements, on, loosen)


def _no_solution(own: str, requirements: Sequence[str], on: str, loosen: str) -> str:
    """The message for a list that uv proves to have no solution."""
    if found := conflict(own, requirements):
        these = " and ".join(map(repr, found.asked))
        said = f"{these} do not fit together on {on}: they want different versions of {found.over}."
        return _quoted("\n  ".join([said, *found.lines]), "", "Loosen one of them, or ask for another python_version.")
    if version := _VERSION.search(own):
        by = wanted_by(own, requirement_name(version.group(1)), requirements)
        return _quoted(f"No version of {version.group(1)!r}{by} can be had for {on}.", own if by else "", loosen)
    if only := _ONLY.search(own):
        name, which, asked = only.groups()
        said = f"No version of {asked!r} can be had for {on}: there is only {name}{which}."
        would_do = _PRE_RELEASE.search(which) and _numbers(asked[len(name) :]) <= _numbers(which)
        pre = f"{name}=={which.lstrip('<=')}"
        return _quoted(said, "", f"{pre!r} is a pre-release; ask for {pre!r} to get it." if would_do else loosen)
    if python := _PYTHON.search(own):
        name, which, span = python.groups()
        by = wanted_by(own, requirement_name(name), requirements)
        said = f"The package '{name}{which}'{by} requires Python {span.rstrip(',')}, and this is {on}."
        return _quoted(
            said,
            "",
            "Ask for a python_version that fits (or for none: the newest that fits is taken), or for another version.",
        )
    if wheels := _NO_WHEELS.search(own):
        name, which, _ = wheels.groups()
        by = wanted_by(own, requirement_name(name), requirements)
        if (needs := _CURRENT.findall(own)) and (asked := _LAST_ASKED.search(own)):
            oldest = min(needs, key=lambda text: [int(part) for part in text.split(".")])
            said = f"No version of {asked.group(1)!r} runs on {on}: the oldest Python for one is {oldest}."
            return _quoted(said, "", "Ask for a newer python_version (or for none), or for an older version of it.")
        there = _only_for(own)
        said = f"The package '{name}{which}'{by} has no wheel for {on}{there}, and no sources to build it from."
        return _quoted(
            said, "", "Ask for a python_version that it has wheels for (or for none), or for another version."
        )
    named = [text for text in requirements if re.search(rf"\b{re.escape(requirement_name(text) or text)}\b", own)]
    said = f"The packages {', '.join(map(repr, named or requirements))} do not fit together on {on}."
    return _quoted(said, own, loosen)


def _only_for(own: str) -> str:
    """``, only for Python 3.6, 3.7`` or another place that there are wheels for."""
    tags = _TAGS.search(own)
    if tags is None:
        return ""
    versions = sorted({(int(major), int(minor)) for major, minor in re.findall(r"`cp(\d)(\d+)", tags.group(1))})
    if versions:
        return ", only for Python " + ", ".join(f"{major}.{minor}" for major, minor in versions)
    return f", only for {tags.group(1).replace('`', '')}"


def _absent(name: str, own: str, requirements: Sequence[str], on: str) -> str:
    by = wanted_by(own, requirement_name(name), requirements)
    if built := _BUILD.search(own):
        by = f", which {built.group(1)!r} needs to be built,"
    step = (
        "Correct the name; if it is on an index of your own, set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS where the "
        "server runs."
    )
    if name == "python":
        step = "Say it as python_version, or as 'python=3.9' among the conda packages; pip has no Python."
    elif not by and name in sys.stdlib_module_names:
        step = f"{name!r} is a part of Python; leave it out. {step}"
    return _quoted(f"The package {name!r}{by} cannot be found for {on}.{suggestion(name)}", "", step)


def _numbers(versions: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", versions)]


def _unbuilt(package: str, error: str, on: str) -> str:
    found = build_error(error)
    hint = _CONFUSED.get(requirement_name(package))
    meant = f" Did you mean {hint!r}?" if hint else ""
    no_wheel = "" if "://" in package else f"has no wheel for {on} and "
    said = f"The package {package!r} {no_wheel}cannot be built: {found.why}.{meant}"
    return _quoted("\n  ".join([said, *found.lines]), "", found.step)


def _no_clone(error: str, own: str) -> str:
    fatal = re.findall(r"(?:fatal|error): ([^\n]+)", error)
    address = _GIT_ADDRESS.search(own)
    why = fatal[-1].strip() if fatal else "git failed"
    said = f"{address.group(1) if address else 'A requirement'} cannot be fetched with git: {why}."
    step = (
        "Correct the address. A login goes into git's own settings (a credential helper, an SSH key) of the user who "
        "runs the server."
    )
    return _quoted(said, "", step)


def _quoted(said: str, own: str, step: str) -> str:
    quote = f" uv says:\n{_compact(own)}" if own else ""
    return f"{said}{quote}\n{step}"


def _compact(own: str) -> str:
    """The lines that say something, each once; the first and the last when there are many."""
    text = own.replace("we can conclude that your requirements are unsatisfiable", "that cannot be satisfied")
    skipped = ("Using ", "Resolved ", "error: No solution found when resolving dependencies")
    lines = [
        f"  {_short(line.strip())}"
        for line in readable(text).splitlines()
        if line.strip() and not line.startswith(skipped)
    ]
    lines = list(dict.fromkeys(lines))
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES // 2], "  …", *lines[-_MOST_LINES // 2 :]]
    return "\n".join(lines) or "  nothing"


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE // 2] + " … " + line[-_LONGEST_LINE // 2 :]


def _host(own: str) -> str:
    match = _HOST.search(own)
    return match.group(1) if match else ""


def _at(host: str) -> str:
    return f" at {host}" if host else ""
