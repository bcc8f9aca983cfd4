"""Figures that a flow displayed, as files beside its notebook, so that a page can show them by link.

They lie in ``.figures`` of the run directory, named ``<flow>_<cell>_<number>.<ending>``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: Directory of the figures in a run directory.
FIGURES: Final = ".figures"
#: A notebook may display thousands; so many are kept as files.
MAXIMUM: Final = 50
_ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the figures that an executed notebook shows.

    :param path: of the notebook.
    :raises OSError: if one cannot be written.
    """
    folder = path.parent / FIGURES
    for number, (cell, ending, data) in zip(range(MAXIMUM), _displayed(notebook), strict=False):
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(exist_ok=True)
        file = folder / f"{path.stem}_{cell}_{number}.{ending}"
        file.unlink(missing_ok=True)  # a link is not followed
        file.write_bytes(data)


def of_run(path: Path) -> list[str]:
    """The figures of a run, in the order of its cells, relative to the run directory.

    :param path: of the notebook.
    """
    found = []
    for name in _files(path):
        cell, number = name.stem.removeprefix(f"{path.stem}_").split("_")
        found.append((int(cell), int(number), f"{FIGURES}/{name.name}"))
    return [name for _, _, name in sorted(found)]


def remove(path: Path) -> None:
    """Delete the figures of a run. :param path: of the notebook."""
    for file in _files(path):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or it holds those of another flow
        (path.parent / FIGURES).rmdir()


def _files(path: Path) -> list[Path]:
    folder = path.parent / FIGURES
    if folder.is_symlink() or not folder.is_dir():
        return []

    def is_ours(file: Path) -> bool:
        parts = file.stem.removeprefix(f"{path.stem}_").split("_")
        return file.stem.startswith(f"{path.stem}_") and len(parts) == 2 and all(map(str.isdecimal, parts))

    return [file for file in folder.iterdir() if is_ours(file)]


def _displayed(notebook: NotebookNode) -> Iterator[tuple[int, str, bytes]]:
    """Cell, file ending and content of each figure."""
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            for kind, ending in _ENDINGS.items():
                content = output.get("data", {}).get(kind)
                if isinstance(content, str):
                    if ending == "svg":
                        yield index, ending, content.encode("utf-8", "replace")
                    else:
                        with contextlib.suppress(binascii.Error, ValueError):
                            yield index, ending, base64.b64decode(content)
                    break
