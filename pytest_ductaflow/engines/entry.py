"""papermill's entry point: ``papermill --engine ductaflow-fork``.

papermill loads this whenever it is imported, also while our own engine imports papermill: so nothing of
ours is imported before it is used.
"""

from __future__ import annotations

from typing import Any

from papermill.engines import Engine


class ForkEngine(Engine):
    """Executes a notebook in a fork of a warm process."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: float = 60,
        execution_timeout: float | None = None,
        **_: Any,
    ) -> None:
        """Execute the notebook in the working directory; options as those of papermill's own engine."""
        from pytest_ductaflow.engines.fork import execute_plainly

        execute_plainly(
            nb_man,
            kernel_name,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
            startup_timeout=start_timeout,
            timeout=execution_timeout,
        )
