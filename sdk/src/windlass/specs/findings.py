"""What ``windlass doctor`` can find: one table of codes, and a finding as it crosses the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from windlass.specs._codec import known_fields

ERROR, WARNING, NOTE = "error", "warning", "note"
"""Something is lost, damaged or does not work; it will or may; it is untidy and harms nobody."""
OPEN, REPAIRED = "open", "repaired"


@dataclass(frozen=True)
class Code:
    """One kind of finding."""

    severity: str
    means: str
    """For the user, in a sentence."""
    repair: str = ""
    """What ``--repair`` does about it; empty when it can do nothing."""
    advice: str = ""
    """What the user can do beyond that."""


@dataclass(frozen=True)
class Finding:
    """One finding, at one place."""

    code: str
    severity: str
    where: str
    """A path, a run's id or another name: with ``code`` it tells this finding from all others."""
    detail: str
    """What was found there, in a sentence."""
    means: str
    repair: str
    """What ``--repair`` would do; empty when it can do nothing here."""
    advice: str
    state: str = OPEN

    @classmethod
    def from_wire(cls, data: "Mapping[str, Any]") -> "Finding":
        """The finding that ``to_wire`` made ``data`` from."""
        return cls(**known_fields(cls, data))

    @property
    def is_problem(self) -> bool:
        """True when it is still there and more than a note: then the doctor's exit code is 1."""
        return self.state == OPEN and self.severity != NOTE


def finding(code: str, where: str, detail: str, *, mendable: bool = True, state: str = OPEN) -> Finding:
    """A finding of the table's kind ``code``; without ``mendable`` it says that ``--repair`` can do nothing here."""
    kind = CODES[code]
    repair = kind.repair if mendable else ""
    return Finding(code, kind.severity, where, detail, kind.means, repair, kind.advice, state)


_BACKUP = "Restore a backup of the workspace, if there is one."
_RETRY = "See server/server.log in the workspace's folder."

CODES: "Mapping[str, Code]" = {
    # machine
    "interpreter_missing": Code(
        ERROR, "No server of this home can be started.", "Records the Python that runs the doctor, if it has Windlass.",
        "Run `windlass init` with the Python that has Windlass."),
    "server_cannot_start": Code(ERROR, "Nothing can be submitted or looked at until the server starts.", "", _RETRY),
    "server_silent": Code(
        ERROR, "A process holds the workspace and answers nobody.", "",
        "End that process; the next command starts a server."),
    "server_version": Code(
        WARNING, "The command line and the server are of different versions; new options may not work.", "",
        "Stop the server with `windlass server stop`; if it comes back so, run `windlass init` with the right Python."),
    "microsoft_sdk": Code(
        ERROR, "`import azureml` may load Microsoft's files instead of those of Windlass.", "",
        "Run `pip uninstall azureml-core`, then `pip install --force-reinstall windlass-sdk`."),
    "uv_missing": Code(
        ERROR, "No environment can be built.", "", "Reinstall Windlass: `pip install --force-reinstall windlass`."),
    "settings_invalid": Code(ERROR, "The server does not start with such a setting.", "", "Correct the setting."),
    "network_file_system": Code(
        ERROR, "File locks do not hold there and records would be lost, so the server refuses to start.", "",
        "Set WINDLASS_HOME to a folder on a local disk."),
    "disk_full": Code(ERROR, "Nothing more can be written there: runs fail or wait.", "", "Free some space."),
    "disk_low": Code(WARNING, "It will be full soon.", "", "Free some space."),
    "folder_closed": Code(
        ERROR, "Windlass cannot work in a folder that it may not write or that is somebody else's.", "",
        "Change its owner or permissions, or set WINDLASS_HOME to a folder of yours."),
    "folder_open": Code(
        WARNING, "Other users of this machine can read what your runs log and write.", "Closes it to others."),
    "socket_blocked": Code(
        ERROR, "The server's socket cannot be made, so the server cannot start.", "",
        "Remove what is in its place, or set WINDLASS_HOME to a folder with a shorter path."),
    "socket_stale": Code(NOTE, "A killed server's socket is left; the next server replaces it.", "Removes it."),
    "clock_behind": Code(
        WARNING, "Records carry times of the future; new runs will be listed before older ones.", "",
        "Set the machine's clock."),
    "gpu_hidden": Code(
        WARNING, "Runs cannot use the GPU.", "", "Install the driver, or give the container access to the GPU."),
    "agent_missing": Code(
        WARNING, "Runs wait for a process that does not come.", "",
        "See agents/local/agent.log in the workspace's folder; `windlass server stop --force` starts afresh."),
    "process_leftover": Code(
        WARNING, "It uses memory and processor time for a run that has ended.", "Kills it."),
    # database
    "database_missing": Code(
        ERROR, "The records of the runs are gone; their files are still there.", "",
        _BACKUP + " Or move the folder runs away to begin anew."),
    "database_closed": Code(ERROR, "The server cannot work without its database.", "", "Change its permissions."),
    "database_locked": Code(
        WARNING, "It could not be examined, and the server cannot write.", "",
        "Close what has it open, such as a database browser."),
    "database_foreign": Code(
        ERROR, "The server does not start on a database that is not its own.", "", "Move it away."),
    "database_newer": Code(
        ERROR, "This version of Windlass cannot read it.", "", "Upgrade: `pip install --upgrade windlass`."),
    "database_older": Code(NOTE, "The next start of the server brings it up to date.", "Brings it up to date."),
    "database_damaged": Code(
        ERROR, "Records may be lost, and the server may fail at any of them.",
        "With the server stopped: saves every row that can be read into a new database and moves the damaged one to "
        "lost+found.",
        "Stop the server; " + _BACKUP[0].lower() + _BACKUP[1:] + " Else repair."),
    "database_copy": Code(
        NOTE, "The copy from before an upgrade has had its week; the next start of the server removes it.",
        "Removes it."),
    "row_orphaned": Code(
        ERROR, "A row belongs to a record that is gone; nothing shows it.",
        "Moves the row to lost+found as JSON."),
    "record_unreadable": Code(
        ERROR, "What shows this record fails.",
        "Where an empty value can stand in, puts one there and keeps the old text in lost+found.", _BACKUP),
    "run_spec_missing": Code(
        ERROR, "No list shows the run.", "Gives it an empty definition, so that it is shown with all it logged."),
    "run_times": Code(
        ERROR, "The run counts as going on, or as ended, against its status.", "Sets it right by the run's history."),
    "run_history": Code(
        WARNING, "The run's history does not lead to its status.", "Adds the missing last entry.",
        "What else is wrong in it stays; the run itself is not affected."),
    "run_waits": Code(
        NOTE, "Its run is taken up, or finished, by the next server.", "", "Start it: `windlass server start`."),
    "run_unheld": Code(
        WARNING, "The run's record waits for an end that nobody will tell.", "",
        "Cancel the run, or restart the server: `windlass server stop --force`."),
    "experiment_counter": Code(
        WARNING, "A new run would get a number that another has.", "Sets the counter right by the runs there are."),
    "tag_index": Code(WARNING, "Filters by tag miss the run or find it wrongly.", "Makes the index anew."),
    "summary_wrong": Code(
        ERROR, "Lists and charts show a wrong count, last value or range.", "Makes the summary anew from the points."),
    "outline_wrong": Code(WARNING, "A chart of the series shows wrong points.", "Makes it anew from the points."),
    "chunk_damaged": Code(
        ERROR, "Metric points cannot be read, and their series cannot be shown.",
        "Moves them to lost+found and counts them as lost points of the run.", _BACKUP),
    # points on their way
    "spool_cut": Code(
        ERROR, "The file lost bytes that the record has already; what the script logs next may be missed.", "",
        "Nothing of the record is lost. Start the run again if it has just begun."),
    "spool_unshipped": Code(
        WARNING, "Metric points of an ended run lie on disk and not in its record.", "Adds them to the record."),
    "client_points": Code(
        WARNING, "Points that a killed process logged into a run are not in its record.",
        "Adds them to the record; those of a run that is gone move to lost+found."),
    # files
    "run_folder_orphan": Code(
        WARNING, "Files of a run that has no record use space; nothing shows them.", "Moves it to lost+found."),
    "run_not_cleared": Code(
        NOTE, "What only the running job needed is still there and uses space.", "Keeps what is to be kept, "
        "then removes the working folder."),
    "kept_file_missing": Code(
        ERROR, "A file that the record promises is gone.", "Brings it back where the workspace has its content.",
        _BACKUP),
    "kept_file_changed": Code(
        ERROR, "A kept file is not what the run wrote.", "Brings it back where the workspace has its content; the "
        "changed one moves to lost+found.", _BACKUP),
    "file_unlisted": Code(NOTE, "The run's record does not vouch for it.", "Lists it, with its checksum."),
    "checksum_missing": Code(
        NOTE, "The files cannot be checked later, or a power loss may yet take them.",
        "Computes the checksums and brings the files to the disk."),
    "upload_leftover": Code(NOTE, "An upload that was cut short uses space.", "Removes it."),
    # blobs
    "blob_damaged": Code(
        ERROR, "Its content is not what was stored.",
        "Moves it to lost+found, and brings it back where a run kept the same content."),
    "snapshot_incomplete": Code(
        ERROR, "Runs of this source folder cannot start.", "Brings back what a run or model has.",
        "Submit the same folder again: what is missing is sent anew."),
    "model_incomplete": Code(
        ERROR, "The model cannot be downloaded.", "Brings back what a run kept.", _BACKUP + " Or register it again."),
    "blob_unused": Code(NOTE, "Nothing uses this content any more.", "Removes it."),
    "blob_leftover": Code(NOTE, "A write that was cut short uses space.", "Removes it."),
    # environments
    "environment_broken": Code(
        WARNING, "It is built again when a run asks for it.", "Removes it."),
    "environment_leftover": Code(NOTE, "A build that was killed uses space.", "Removes it."),
    "environment_note": Code(NOTE, "It is made anew when it is needed.", "Removes it."),
    "sdk_copy_damaged": Code(
        ERROR, "Jobs cannot import windlass or azureml, or get changed ones.", "Makes it anew.",
        "Restart the server if it stays so."),
    "sdk_leftover": Code(NOTE, "A copy that was cut short uses space.", "Removes it."),
    # home
    "offline_run_unreadable": Code(
        WARNING, "It cannot be replayed into a workspace.", "", "Its points and files are in that folder."),
    "temporary_file": Code(NOTE, "A write that was cut short left it.", "Removes it."),
}  # fmt: skip
