"""``resume_from``: the data of an earlier run, passed to the script as ``--resume-from PATH``."""

from __future__ import annotations

from typing import Any, List

from windlass.errors import UserErrorException

OPTION = "--resume-from"
_NAME = "MODEL_LOCATION"


def resume_arguments(resume_from: Any) -> "List[Any]":
    """The script's arguments for it: none, or the option and the data.

    Raises:
        UserErrorException: it is neither a path nor data of a datastore.
    """
    if resume_from is None:
        return []
    if hasattr(resume_from, "create_data_reference"):  # a DataPath
        return [OPTION, resume_from.create_data_reference(data_reference_name=_NAME)]
    if isinstance(resume_from, str) or hasattr(resume_from, "_argument"):
        return [OPTION, resume_from]
    raise UserErrorException(
        "resume_from=%r must be a DataPath, a data reference, a dataset or a path, such as "
        "DataPath(datastore, 'checkpoints')." % (resume_from,)
    )
