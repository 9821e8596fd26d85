"""Scripts, styles and pictures, under an address that changes with their content."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from starlette.responses import Response

from windlass.errors import ServiceUnavailable, UserErrorException

_OURS = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
# uPlot as the package uplot-python brings it (docs/dev/2026-11-20-charts.md); its Python is never imported.
_CHARTS = "uplot-python"
_CHART_FILES = ("uplot/static/uPlot.iife.js", "uplot/static/uPlot.min.css")


class Assets:
    """All static files in memory; ``url`` says where each is served, for ever the same while its content is."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in _OURS.iterdir() if path.suffix in _TYPES}
        self._files.update(_chart_library())
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(name.encode() + b"\0" + hashlib.sha256(self._files[name]).digest())
        # One hash for all of them, as a folder: the imports between modules are relative and stay right.
        self.version = digest.hexdigest()[:16]

    def url(self, name: str) -> str:
        """The address of one file.

        Raises:
            KeyError: there is no such file; a template is wrong.
        """
        if name not in self._files:
            raise KeyError(name)
        return f"/static/{self.version}/{name}"

    def response(self, version: str, name: str) -> Response:
        """The file as an answer that may be cached for a year.

        Raises:
            UserErrorException: no such file, or of another version of the pages.
        """
        if version != self.version or name not in self._files:
            raise UserErrorException(f"There is no file {name!r} in this version of the pages; reload the page.")
        return Response(
            self._files[name],
            media_type=_TYPES[Path(name).suffix],
            headers={"Cache-Control": "public, max-age=31536000, immutable"},
        )


def _chart_library() -> dict[str, bytes]:
    try:
        package = metadata.distribution(_CHARTS)
        return {Path(name).name: Path(str(package.locate_file(name))).read_bytes() for name in _CHART_FILES}
    except (metadata.PackageNotFoundError, FileNotFoundError) as e:
        raise ServiceUnavailable(
            f"The pages' charts need the package {_CHARTS}, which is not whole in this installation: {e}.",
            "Reinstall Windlass: pip install --force-reinstall windlass.",
            transient=False,
        ) from e
