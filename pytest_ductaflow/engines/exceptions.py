"""An exception of a flow as plain data, in terms of the flow's own file. Runs in the kernel's process."""

from __future__ import annotations

import itertools
import os
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

import ipykernel
import IPython

from pytest_ductaflow import context

#: Where the code lies that executes the flow's; of a traceback it is no part.
_MACHINERY: Final = tuple(
    os.path.dirname(module.__file__ or "") + os.sep for module in (IPython, ipykernel, context)
)


def describe_exception(error: BaseException, run: context.Context, here: FrameType) -> dict[str, Any]:
    """An exception as plain data: type, message, the frames from the flow on, the traceback as text.

    :param here: where it was caught. Of what the flow executed (``%run``), the flow's own line comes first.
    """
    root = run.project_root.rstrip(os.sep) + os.sep
    trace = traceback.TracebackException.from_exception(error)
    _trim(trace, run.flow)
    shown = [
        {"file": frame.filename.removeprefix(root), "line": frame.lineno, "function": frame.name}
        for frame in _from_the_flow_on(error, run.flow, here)
    ]
    if isinstance(error, SyntaxError) and error.filename == run.flow:
        shown = [{"file": run.flow.removeprefix(root), "line": error.lineno, "function": "<module>"}]
    place = next((f for f in reversed(shown) if f["file"] == run.flow.removeprefix(root)), {})
    try:
        message = str(error)
    except Exception as failure:  # a broken __str__ must not hide the error
        message = f"<no message: {type(failure).__name__} in __str__>"
    details: dict[str, Any] = {
        "type": type(error).__qualname__,
        "message": message.encode("utf-8", "backslashreplace").decode(),
        "file": place.get("file"),
        "line": place.get("line"),
        "frames": shown,
        "traceback": "".join(trace.format())
        .replace(f'File "{root}', 'File "')
        .encode("utf-8", "backslashreplace")
        .decode(),
    }
    directory, cause = getattr(error, "directory", None), getattr(error, "error", None)
    if isinstance(directory, str) and isinstance(cause, dict):  # RunFailed: a flow of this build failed
        details["run"], details["cause"] = directory, cause
    return details


def _from_the_flow_on(error: BaseException, flow: str, here: FrameType) -> Sequence[traceback.FrameSummary]:
    """The frames from the flow's first on; none if the flow has no part in it."""
    raised: Sequence[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    if not any(frame.filename == flow for frame in raised):
        raised = [*traceback.extract_stack(here), *raised]
        raised = [frame for frame in raised if not frame.filename.startswith(_MACHINERY)]
    return list(itertools.dropwhile(lambda frame: frame.filename != flow, raised))


def _trim(trace: traceback.TracebackException, flow: str) -> None:
    """Leave out the frames of IPython above the flow's own, in the whole chain."""
    seen = trace
    while seen is not None:
        own = [index for index, frame in enumerate(seen.stack) if frame.filename == flow]
        if own:
            del seen.stack[: own[0]]
        while seen.stack and seen.stack[0].filename.startswith(_MACHINERY):
            del seen.stack[0]
        following = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        if following is None:
            return
        seen = following
