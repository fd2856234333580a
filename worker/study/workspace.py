"""Files that pass between the steps of one job, in a folder that all workers share."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of one job: a sub-folder per finished step."""

    folder: Path

    def of(self, step: str) -> Path:
        """Where a finished step left its files."""
        return self.folder / step

    @contextmanager
    def publish(self, step: str, fence: int) -> Iterator[Path]:
        """A private folder that becomes the step's folder when the block ends well.

        Steps are deterministic: where another claim published first, its files stay and these are dropped.
        """
        private = self.folder / f".{step}.{fence}"
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(parents=True)
        try:
            yield private
            if not self.of(step).exists():
                try:
                    private.rename(self.of(step))
                except OSError:
                    # the target came into being in between
                    if not self.of(step).exists():
                        raise
        finally:
            shutil.rmtree(private, ignore_errors=True)


def workspace_of(jobs_folder: Path, job_id: int) -> Workspace:
    """The workspace of a job."""
    return Workspace(jobs_folder / str(job_id))


def remove_workspaces(jobs_folder: Path, job_ids: set[int]) -> None:
    """Delete the workspaces of these jobs."""
    for job_id in job_ids:
        shutil.rmtree(jobs_folder / str(job_id), ignore_errors=True)


def list_workspaces(jobs_folder: Path) -> set[int]:
    """Ids of the jobs that have a workspace."""
    if not jobs_folder.exists():
        return set()
    return {int(entry.name) for entry in os.scandir(jobs_folder) if entry.name.isdecimal()}
