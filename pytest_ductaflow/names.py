"""Names of instances and steps: directory names on every platform, and parts of test ids. Glob patterns."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: In characters.
MAX_LENGTH: Final = 100
_MAX_BYTES: Final = 255

_NAME: Final = re.compile(r"(?!_)\w[\w.-]*")
_OTHER: Final = re.compile(r"[^\w.-]")
_WINDOWS_DEVICES: Final = frozenset(
    ["con", "prn", "aux", "nul"] + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)


def check_name(name: str) -> str | None:
    """Why this cannot be a name, or ``None`` if it can."""
    if len(name) > MAX_LENGTH:
        return f"has {len(name)} characters, at most {MAX_LENGTH} are allowed"
    if len(name.encode()) > _MAX_BYTES:
        return f"has {len(name.encode())} bytes in UTF-8, file systems allow {_MAX_BYTES}"
    if not _NAME.fullmatch(name):
        return "must be letters, digits, `_`, `.` and `-`, and start with a letter or digit"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode normalization form NFC"
    if name.split(".")[0].casefold() in _WINDOWS_DEVICES:
        return "is a device name on Windows"
    if name.endswith("."):
        return "must not end with a dot"
    return None


def check_pattern(pattern: str) -> str | None:
    """Why this cannot be a glob pattern, or ``None`` if it can. Pathlib says so only when it is used."""
    parts = re.split(r"[/\\]", pattern)
    if not any(part not in ("", ".") for part in parts) or "\0" in pattern:
        return "names no files"
    if any("**" in part and part != "**" for part in parts):
        return "has `**` beside other characters: it stands for whole directories, as in `data/**/*.csv`"
    return None


def label_text(text: str) -> str:
    """A label as part of a name: every character that names do not have becomes ``_``."""
    return _OTHER.sub("_", unicodedata.normalize("NFC", text))


def file_of(node_id: str) -> str:
    """The file of a test id, relative to the project root."""
    return node_id.partition("::")[0]


def without_group(node_id: str) -> str:
    """An instance's node id as it was collected: with ``--dist=loadgroup`` xdist appends ``@group``."""
    file, separator, name = node_id.partition("::")
    return file + separator + name.partition("@")[0]


def default_name(stem: str) -> str:
    """A name from the stem of a file."""
    return label_text(stem).lstrip("_.-") or "instance"
