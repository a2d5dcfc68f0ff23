"""What keeps the processes of instances apart: directories of their own through bubblewrap, where it works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpufn.compute import process_record, process_spawn, secret_files
from gpufn.compute.process_spawn import Directories


class Isolation:
    """Chosen by ``open`` from the setting. ``data`` stays visible to instances, wherever it lies."""

    def __init__(self, setting: str, data: Path) -> None:
        self._setting, self._data = setting, data
        self.wraps = False
        """Whether bubblewrap is used."""

    async def open(self) -> None:
        """See whether bubblewrap works. Raises BackendError when the setting asks for what there is not."""
        self.wraps = await process_spawn.uses_bubblewrap(self._setting)

    def wrap(self, directories: Directories, *, cwd: Path, python: Path) -> Sequence[str]:
        """What comes before the program."""
        if not self.wraps:
            return []
        return process_spawn.bubblewrap(directories, cwd=cwd, keep=self.visible(python))

    def visible(self, python: Path) -> Sequence[Path]:
        """What can be seen even where it lies below /tmp."""
        return [self._data, *process_spawn.interpreter_directories(python)]

    def shared(self, directories: Directories) -> str:
        """/var/inf, as the instance sees it."""
        return process_record.SHARED_DIR if self.wraps else str(directories.inf)

    def secrets(self, directories: Directories) -> str:
        """/var/secrets, as the instance sees it."""
        return secret_files.TARGET if self.wraps else str(directories.secrets)
