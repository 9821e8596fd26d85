from __future__ import annotations

import pytest

from windlassd.envs._condarc import Unreadable, load

TEXT = """\
# of the lab
channel_alias: https://mirror.lab/conda   # ours
channels:
  - lab
  - 'conda-forge'
default_channels: [https://mirror.lab/main, "https://mirror.lab/r"]
custom_channels:
  team: https://artifacts.lab/conda

pkgs_dirs:
- /data/pkgs
ssl_verify: false
"""


def test_names_lists_and_mappings() -> None:
    assert load(TEXT) == {
        "channel_alias": "https://mirror.lab/conda",
        "channels": ["lab", "conda-forge"],
        "default_channels": ["https://mirror.lab/main", "https://mirror.lab/r"],
        "custom_channels": {"team": "https://artifacts.lab/conda"},
        "pkgs_dirs": ["/data/pkgs"],
        "ssl_verify": "false",
    }
    assert load("") == {} and load("channels:\n") == {"channels": ""}


@pytest.mark.parametrize(
    "text", ["channels: [a\n", "just words\n", "a: b\n  - c\n", "- a\n", "a:\n  - b\n  c: d\n", "a: |\n"]
)
def test_what_cannot_be_read_is_told_by_its_line(text: str) -> None:
    with pytest.raises(Unreadable, match=r"line \d"):
        load(text)
