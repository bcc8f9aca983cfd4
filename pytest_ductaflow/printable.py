"""Text of files and flows made fit for a terminal: no control sequence in it acts.

What users wrote (names, messages, source lines, configs) may hold any character; shown as it is, it could
move the cursor, hide lines or set the window's title.
"""

from __future__ import annotations

import re
from typing import Final

from pytest_ductaflow.strict_json import encodable

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: Control characters, but for tabs, line ends and colours.
_COMMANDS: Final = re.compile(
    "(?!\x1b\\[[0-9;:]*m)[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def plain(text: str) -> str:
    """The text in one line that moves no cursor; control characters are shown as escapes."""
    return _CONTROL.sub(_escape, encodable(text))


def coloured(text: str) -> str:
    """Lines of text that keep their colours; what else a terminal would act on is shown as escapes."""
    return _COMMANDS.sub(_escape, encodable(text))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode-escape").decode()
