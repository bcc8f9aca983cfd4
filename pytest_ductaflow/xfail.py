"""What a mark ``xfail`` makes of an instance's outcome. Its run's record knows nothing of marks."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

XFAILED: Final = "xfailed"
XPASSED: Final = "xpassed"
#: The mark is strict, and the instance passed: it fails for that.
STRICT: Final = "XPASS(strict)"


class Verdict(NamedTuple):
    """What pytest said, and the mark's reason."""

    word: Literal["xfailed", "xpassed", "XPASS(strict)"]
    reason: str


def verdict_of(report: Any) -> Verdict | None:
    """What a mark ``xfail`` made of a pytest report, ``None`` if nothing."""
    if hasattr(report, "wasxfail"):
        reason = str(report.wasxfail).removeprefix("reason: ")  # of what was not run
        return Verdict(XFAILED, reason) if report.skipped else Verdict(XPASSED, reason)
    start = f"[{STRICT}]"  # pytest has no other sign of it
    text = report.longrepr
    if report.failed and isinstance(text, str) and text.startswith(start):
        return Verdict(STRICT, text.removeprefix(start).strip() or "it passed, and its mark is strict")
    return None
