"""The file half of ``Run``: kept files come down checked and whole, and go up by name."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from windlass._not_offered import refuse_options
from windlass.errors import ServiceUnavailable, UserErrorException, did_you_mean

if TYPE_CHECKING:
    from windlass._transport.client import Client

_CHUNK_BYTES = 1 << 20
_BAR_FROM_BYTES = 32 << 20
_STORE = "Files go to the run's own store."


_OTHER_NAMES = "user_logs/std_log"
"""The newer runtime's names of the driver logs, which the server knows and does not list."""


class RunFiles:
    """Files kept with a run."""

    _id: str

    @property
    def _client(self) -> "Client":
        raise NotImplementedError

    def get_file_names(self) -> "List[str]":
        """Names of the files kept so far, sorted."""
        return [file["path"] for file in self._files()]

    def download_file(self, name: str, output_file_path: "Optional[str]" = None) -> None:
        """Write a kept file to this machine.

        Args:
            name: As ``get_file_names`` lists it.
            output_file_path: Where to: a file, or a folder that exists; None is the current folder.

        Raises:
            UserErrorException: the run has no such file (near matches are named), or the place cannot be written.
        """
        if not isinstance(name, str) or not name:
            raise UserErrorException("name must be a kept file's name, such as 'outputs/model.pt', not %r." % (name,))
        names = self.get_file_names()
        if name not in names and not name.startswith(_OTHER_NAMES):
            raise UserErrorException(no_such_file(self._id, name, names))
        target = target_of(name, output_file_path)
        fetch(self._client, "/v1/runs/%s/files/" % self._id, name, target)

    def download_files(
        self, prefix: "Optional[str]" = None, output_directory: "Optional[str]" = None,
        output_paths: "Optional[Sequence[str]]" = None, batch_size: int = 100, append_prefix: bool = True,
        timeout_seconds: "Optional[int]" = None,
    ) -> None:  # fmt: skip
        """Write all kept files whose names begin with ``prefix`` to this machine.

        Args:
            prefix: A folder or the beginning of names; None is all.
            output_directory: Where to; None is the current folder.
            output_paths: One path for each file instead of its name, in the order of ``get_file_names``.
            batch_size: Says nothing: files come one after the other on one connection.
            append_prefix: False leaves ``prefix`` off the names below ``output_directory``.
            timeout_seconds: Not offered.

        Raises:
            UserErrorException: nothing begins with ``prefix``, or the paths are not as many as the files.
        """
        refuse_options("Run.download_files", {"timeout_seconds": (timeout_seconds, None, "Leave it out.")})
        for name, target in places(
            self._id, self.get_file_names(), prefix, output_directory, output_paths, append_prefix
        ):
            fetch(self._client, "/v1/runs/%s/files/" % self._id, name, target)

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: "Optional[str]" = None) -> "Dict[str, Any]":
        """Keep a file with the run under ``name``; returns its path, size and checksum.

        Args:
            name: Such as ``outputs/model.pkl``; a file of that name is replaced.
            path_or_stream: A path, or an object with ``read()`` that gives bytes or text.
            datastore_name: Not offered yet.

        Raises:
            UserErrorException: the name leads outside of the run, or there is no such file.
        """
        refuse_options("Run.upload_file", {"datastore_name": (datastore_name, None, _STORE)})
        if not hasattr(path_or_stream, "read"):
            return self._keep([(kept_name(name), path_or_stream)])[0]
        content = path_or_stream.read()
        body = content.encode("utf-8") if isinstance(content, str) else bytes(content)
        return self._send(kept_name(name), body)

    def upload_files(
        self, names: "Sequence[str]", paths: "Sequence[str]", return_artifacts: bool = False,
        timeout_seconds: "Optional[int]" = None, datastore_name: "Optional[str]" = None,
    ) -> "Optional[List[Dict[str, Any]]]":  # fmt: skip
        """Keep several files, ``paths[i]`` under ``names[i]``; with ``return_artifacts`` returns what each became."""
        refuse_options("Run.upload_files", {"timeout_seconds": (timeout_seconds, None, "Leave it out.")})
        if len(names) != len(paths):
            raise UserErrorException(
                "names has %d entries and paths has %d; they go together." % (len(names), len(paths))
            )
        refuse_options("Run.upload_files", {"datastore_name": (datastore_name, None, _STORE)})
        kept = self._keep([(kept_name(name), path) for name, path in zip(names, paths)])
        return kept if return_artifacts else None

    def upload_folder(self, name: str, path: str, datastore_name: "Optional[str]" = None) -> "List[Dict[str, Any]]":
        """Keep all files of a folder under ``name/``; returns what each became."""
        refuse_options("Run.upload_folder", {"datastore_name": (datastore_name, None, _STORE)})
        return self._keep(list(folder_files(name, path)))

    def _keep(self, files: "Sequence[Tuple[str, Any]]") -> "List[Dict[str, Any]]":
        """Keep each (name, place); what each became."""
        from windlass._handover import hand_over  # here and not above: a job that uploads nothing should not pay for it

        kept = []
        for file, known in hand_over(self._client, "/v1/runs/%s/copies" % _quoted(self._id), files):
            if known is None:
                with open_local(file.place) as f:
                    known = self._send(file.name, f)
            kept.append(known)
        return kept

    def _send(self, name: str, body: "Union[bytes, BinaryIO]") -> "Dict[str, Any]":
        target = "/v1/runs/%s/files/%s" % (_quoted(self._id), _quoted(name))
        return dict(self._client.call("PUT", target, body=body, content_type="application/octet-stream"))

    def _files(self) -> "List[Dict[str, Any]]":
        return list(self._client.get("/v1/runs/%s/files" % _quoted(self._id))["files"])


def places(
    run_id: str, names: "Sequence[str]", prefix: "Optional[str]", folder: "Optional[str]",
    paths: "Optional[Sequence[str]]", append_prefix: bool,
) -> "List[Tuple[str, str]]":  # fmt: skip
    """(name, path to write it to) of each kept file that begins with ``prefix``; see ``download_files``."""
    wanted = [name for name in names if name.startswith(prefix or "")]
    if not wanted:
        raise UserErrorException(no_such_file(run_id, prefix or "", names))
    if paths is not None and len(paths) != len(wanted):
        raise UserErrorException(
            "output_paths has %d paths, but %d files begin with %r: %s."
            % (len(paths), len(wanted), prefix, ", ".join(wanted[:10]))
        )
    found = []
    for place, name in enumerate(wanted):
        shown = name if append_prefix or not prefix else name[len(prefix) :].lstrip("/") or os.path.basename(name)
        found.append((name, inside(folder or ".", paths[place] if paths is not None else shown)))
    return found


def fetch(client: "Client", address: str, name: str, target: str) -> None:
    """Write the octets at ``address + name`` to ``target``: whole and checked, or not at all.

    Raises:
        UserErrorException: the place cannot be written.
        ServiceUnavailable: the transfer broke off or does not have the checksum.
    """
    answer = client.open("GET", _quoted(address + name))
    beside = "%s.%d.part" % (target, os.getpid())
    try:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with open(beside, "wb") as f:
            _copy(answer, f, name)
        os.replace(beside, target)
    except OSError as e:
        raise UserErrorException("%s cannot be written to %s: %s." % (name, target, e.strerror or e)) from e
    finally:
        answer.close()
        if os.path.exists(beside):
            os.remove(beside)


def _copy(answer: Any, f: BinaryIO, name: str) -> None:
    import hashlib  # here and not above: a job that uploads nothing should not pay for it
    from http.client import HTTPException

    expected, length = answer.headers.get("X-Windlass-SHA256"), answer.length
    digest, done = hashlib.sha256(), 0
    bar = _Bar(name, length)
    while True:
        try:
            chunk = answer.read(_CHUNK_BYTES)
        except (HTTPException, ConnectionError) as e:
            raise ServiceUnavailable("The download of %s broke off after %d bytes." % (name, done), "Try again.") from e
        if not chunk:
            break
        f.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        bar.show(done)
    bar.end()
    if length is not None and done != length:
        raise ServiceUnavailable(
            "The download of %s broke off after %d of %d bytes." % (name, done, length), "Try again."
        )
    if expected and digest.hexdigest() != expected.lower():
        raise ServiceUnavailable(
            "The download of %s does not have its checksum; nothing was written." % name, "Try again."
        )


class _Bar:
    """A progress bar on standard error: for big files, on a terminal, and nowhere else."""

    def __init__(self, name: str, total: "Optional[int]") -> None:
        self._name, self._total = os.path.basename(name), total or 0
        self._on = self._total >= _BAR_FROM_BYTES and sys.stderr.isatty()
        self._shown = -1

    def show(self, done: int) -> None:
        percent = 100 * done // self._total if self._on else 0
        if self._on and percent != self._shown:
            self._shown = percent
            filled = "#" * (percent * 30 // 100)
            sys.stderr.write("\r%s [%-30s] %3d %% of %d MB" % (self._name, filled, percent, self._total >> 20))
            sys.stderr.flush()

    def end(self) -> None:
        if self._on:
            sys.stderr.write("\n")


def inside(folder: str, name: str) -> str:
    """The path of ``name`` in ``folder``.

    Raises:
        UserErrorException: it leads out of the folder, by itself or through a link.
    """
    root = os.path.abspath(folder)
    place = os.path.normpath(os.path.join(root, name))
    real, real_root = os.path.realpath(place), os.path.realpath(root)
    if not (place + os.sep).startswith(root.rstrip(os.sep) + os.sep) or not real.startswith(
        real_root.rstrip(os.sep) + os.sep
    ):
        raise UserErrorException("%r leads out of the folder %s; nothing was written." % (name, root))
    return place


def kept_name(name: Any) -> str:
    """``name`` as a kept file's name: relative, with forward slashes.

    Raises:
        UserErrorException: it is empty, absolute or leads outside.
    """
    text = name.replace("\\", "/") if isinstance(name, str) else ""
    parts = text.split("/")
    while parts[0] == ".":  # v1's documents write ./outputs/…
        parts = parts[1:] or [""]
    if not all(parts) or ".." in parts or "." in parts or ":" in parts[0]:
        raise UserErrorException(
            "%r cannot name a file of a run: give a relative path such as 'outputs/model.pkl', without '..'." % (name,)
        )
    return "/".join(parts)


def open_local(path: Any) -> BinaryIO:
    """The file at ``path``, open for reading.

    Raises:
        UserErrorException: there is none, or it cannot be read.
    """
    try:
        return open(os.path.expanduser(path), "rb")
    except (OSError, TypeError) as e:
        reason = getattr(e, "strerror", None) or e
        raise UserErrorException(
            "%r cannot be uploaded: %s. Give the path of a file, or a stream." % (path, reason)
        ) from e


def folder_files(name: str, path: str) -> "Iterator[tuple[str, str]]":
    """Yield (kept name, place) of each file of the folder ``path`` when kept under ``name``.

    Raises:
        UserErrorException: it is no folder.
    """
    if not os.path.isdir(path):
        raise UserErrorException("upload_folder(path=%r): there is no such folder." % (path,))
    prefix = kept_name(name.rstrip("/"))
    for folder, folders, files in os.walk(path):
        folders.sort()
        for file in sorted(files):
            place = os.path.join(folder, file)
            yield "%s/%s" % (prefix, os.path.relpath(place, path).replace(os.sep, "/")), place


def target_of(name: str, output_file_path: "Optional[str]") -> str:
    kept_name(name)
    if output_file_path is None:
        return os.path.abspath(os.path.basename(name))
    path = os.path.abspath(os.path.expanduser(os.fspath(output_file_path)))
    if os.path.isdir(path) or str(output_file_path).endswith(("/", os.sep)):
        return os.path.join(path, os.path.basename(name))
    return path


def no_such_file(run_id: str, name: str, names: "Sequence[str]") -> str:
    near = did_you_mean(name, names)
    same = [known for known in names if known.split("/")[-1] == name.split("/")[-1]]
    if same and not near:
        near = " Did you mean %r?" % same[0]
    if not near:
        near = " It has: %s." % ", ".join(names[:20]) if names else " It has no files yet."
    return "%s has no file %r.%s" % (run_id, name, near)


def _quoted(name: str) -> str:
    from windlass._transport.client import quote

    return quote(name)
