"""HTML of an executed notebook, through nbconvert (the ``[html]`` extra)."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_ductaflow import regular
from pytest_ductaflow.errors import HTMLError


def convert_notebook_to_html(
    notebook_path: str | os.PathLike[str],
    html_path: str | os.PathLike[str],
    template: str = "lab",
) -> None:
    """Write a notebook as a self-contained HTML file.

    :param template: nbconvert's template, ``lab`` or ``classic``.
    :raises HTMLError: if nbconvert is not installed or has no such template.
    """
    try:
        from nbconvert import HTMLExporter
    except ImportError:
        raise HTMLError("HTML needs nbconvert: pip install 'pytest-ductaflow[html]'") from None
    try:
        exporter = HTMLExporter(template_name=template)
    except ValueError as error:
        raise HTMLError(f"HTML template {template!r}: {error}") from None
    regular.open_file(notebook_path).close()  # nbconvert would wait for what comes out of a pipe
    body, _ = exporter.from_filename(str(notebook_path))
    Path(html_path).write_text(body, encoding="utf-8")
