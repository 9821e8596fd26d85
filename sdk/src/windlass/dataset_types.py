"""The enumerations of v1's ``azureml.data.dataset_type_definitions``."""

from __future__ import annotations

from enum import Enum


class PromoteHeadersBehavior(Enum):
    """Where delimited files have their column names."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


class SkipLinesBehavior(Enum):
    """From which files lines are left out."""

    NO_ROWS = 0
    FROM_FIRST_FILE_ONLY = 1
    FROM_ALL_FILES = 2


class FileEncoding(Enum):
    """How text is encoded."""

    UTF8 = 0
    ISO88591 = 1
    LATIN1 = 2
    ASCII = 3
    UTF16 = 4
    UTF32 = 5
    UTF8BOM = 6
    WINDOWS1252 = 7


class FileType(Enum):
    """What kind of file it is."""

    GENERIC_CSV = 0
    GENERIC_CSV_NO_HEADER = 1
    GENERIC_TSV = 2
    GENERIC_TSV_NO_HEADER = 3
    GENERIC_OTHER_DELIMITED = 4
    GENERIC_OTHER_DELIMITED_NO_HEADER = 5
    UNKNOWN = 6


class HistogramCompareMethod(Enum):
    """How two histograms are compared."""

    WASSERSTEIN = 0
    ENERGY = 1
