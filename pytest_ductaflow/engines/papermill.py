"""papermill's own way: a fresh kernel for each run, spoken to by jupyter_client.

The kernel is this Python, with ipc sockets in a directory that only this user may enter, its own process
group, and no ``PYTEST_*`` in its environment. Where there is a launcher, that starts it, and nothing that
it started outlives it; elsewhere jupyter_client does, and what is found below the kernel is ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from papermill.engines import NotebookExecutionManager

from pytest_ductaflow.engines import launcher
from pytest_ductaflow.engines.base import Task
from pytest_ductaflow.engines.driver import SAVE_INTERVAL, STOP_TIMEOUT, Client, NotebookRun
from pytest_ductaflow.engines.processes import kill_group, kill_tree
from pytest_ductaflow.flow import NATIVE_KERNELS

#: Seconds in which a kernel must be up.
_START_TIMEOUT: Final = 60
#: Seconds that what a kernel left behind has to be gone.
_KILL_TIMEOUT: Final = 10

_EXTENSION_ARGUMENTS: Final = (
    "--IPKernelApp.outstream_class=pytest_ductaflow.engines.kernel.open_stream",
    "--IPKernelApp.extra_extensions=pytest_ductaflow.engines.kernel",
)


class PapermillRun(NotebookRun):
    """A run in a fresh kernel."""

    def __init__(self, task: Task) -> None:
        self._kernel: Any = None  # its manager
        self._process: Any = None  # the kernel's: a Popen, or like one
        alone = os.name == "posix" and not launcher.available()  # nobody else ends it if we are killed
        self._lifeline: tuple[int, int] | None = os.pipe() if alone else None
        self._saving = False
        super().__init__(task)

    def connect(self, manager: NotebookExecutionManager, kernel_name: str) -> None:
        """Start a kernel and execute the notebook in it."""
        lifeline = self._lifeline[0] if self._lifeline else None
        address = str(launcher.current().directory) if launcher.available() else None
        environment = self.prepare_kernel(lifeline=lifeline, launcher=address)
        with open(self.private / "kernel.log", "wb") as log:
            client = _Client(
                manager,
                run=self,
                km=_kernel_manager(kernel_name, self.private),
                kernel_name=kernel_name,
                startup_timeout=_START_TIMEOUT,
                on_cell_start=self.start_saving,
                resources={"metadata": {"path": str(self.task.directory)}},
                extra_arguments=list(_EXTENSION_ARGUMENTS),
            )
            options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log, "cleanup_kc": True}
            if lifeline is not None:
                options["pass_fds"] = (lifeline,)
            try:
                client.execute(**options)
            finally:
                self._reap(client)

    def started(self, kernel: AsyncKernelManager) -> None:
        """The kernel's process exists."""
        self._kernel = kernel
        self._process = getattr(kernel.provisioner, "process", None)
        self.outcome.pid = self._process.pid if self._process is not None else 0
        if self.stopped:  # while it started
            self._end()

    def start_saving(self, **_: Any) -> None:
        """Save the notebook once a second while cells run."""
        if not self._saving:
            self._saving = True
            asyncio.get_running_loop().call_later(SAVE_INTERVAL, self._save_again)

    def _save_again(self) -> None:
        asyncio.get_running_loop().call_later(self.save_running(), self._save_again)

    def stop(self) -> None:
        """Kill the kernel and everything it started."""
        self.stopped = True
        self._end()

    def tidy(self) -> None:
        """See that the kernel left nothing behind."""
        if isinstance(self._process, launcher.Started):
            self._process.close(_KILL_TIMEOUT)
        elif self._process is not None:
            kill_tree(self._process.pid)
            if os.name == "posix":
                kill_group(self._process.pid)
        for descriptor in self._lifeline or ():
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _end(self) -> None:
        if isinstance(self._process, launcher.Started):
            self._process.end()
        elif self._process is not None:
            kill_tree(self._process.pid)

    def _reap(self, client: _Client) -> None:
        self.overdue = self._kernel is not None and self._kernel.overdue
        if client.km is not None and client.km.has_kernel:
            self.stop()
        if self._process is not None:
            deadline = time.monotonic() + 5
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            self.exit_status = self._process.poll()


class _Client(Client):
    """Says when the kernel's process exists."""

    _run: PapermillRun

    async def async_start_new_kernel(self, **options: Any) -> None:
        await super().async_start_new_kernel(**options)
        self._run.started(self.km)

    def start_new_kernel(self, **options: Any) -> None:
        super().start_new_kernel(**options)
        self._run.started(self.km)


class _NativeKernel(KernelSpecManager):
    """``python3`` is the Python that runs us, whatever kernel of that name the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name in NATIVE_KERNELS:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            if sys.version_info >= (3, 11):
                argv.insert(1, "-Xfrozen_modules=off")  # else the debugger prints a warning into the run
            return KernelSpec(argv=argv, display_name="Python 3", language="python")
        return super().get_kernel_spec(kernel_name)


class _KernelManager(AsyncKernelManager):
    """Asks a kernel to stop without interrupting it first: it is idle, and the interrupt can hit its loop."""

    overdue = False  # it did not stop by itself in time

    async def _async_interrupt_kernel(self) -> None:
        pass

    async def _async_send_kernel_sigterm(self, restart: bool = False) -> None:
        self.overdue = True
        await super()._async_send_kernel_sigterm(restart)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        local = self.provisioner
        if not launcher.available() or type(local) is not LocalProvisioner:  # the kernel has its own way
            await super()._async_launch_kernel(kernel_cmd, **options)
            return
        kernel: Any = launcher.current().begin(
            [os.path.expanduser(part) for part in kernel_cmd],
            options["stdout"],
            environment=options["env"],
            directory=options["cwd"],
            private=str(Path(self.connection_file).parent),
        )
        local.process, local.pid, local.pgid, local.cwd = kernel, kernel.pid, kernel.pid, options["cwd"]
        self._reconcile_connection_info(local.connection_info)


def _kernel_manager(kernel_name: str, private: Path) -> AsyncKernelManager:
    manager = _KernelManager(
        shutdown_wait_time=2 * STOP_TIMEOUT,  # half of it until SIGTERM, half until SIGKILL
        kernel_name=kernel_name,
        kernel_spec_manager=_NativeKernel(),
        connection_file=str(private / "kernel.json"),
    )
    if os.name == "posix":
        manager.transport = "ipc"
        manager.ip = str(private / "k")
    return manager
