import errno
import threading
from pathlib import Path

import pytest

from dicom_node import durable
from dicom_node.durable import SharedSync


class Syncs:
    """Stands for the disk: each sync waits until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.count = 0

    def sync_folder(self, _: Path) -> None:
        self.count += 1
        self.begun.release()
        assert self.let_go.acquire(timeout=30)


def test_who_asks_during_a_sync_shares_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has begun may have missed their names, so it isn't enough for them."""
    disk, shared, done = Syncs(), SharedSync(tmp_path), threading.Semaphore(0)
    monkeypatch.setattr(durable, "sync_folder", disk.sync_folder)

    def ask() -> None:
        shared.sync()
        done.release()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    threads[0].start()
    assert disk.begun.acquire(timeout=30)
    for thread in threads[1:]:
        thread.start()
    while len(shared._changed._waiters) < 5:  # type: ignore[attr-defined]
        continue
    disk.let_go.release()
    assert done.acquire(timeout=30)
    assert disk.begun.acquire(timeout=30)
    assert not done.acquire(blocking=False)
    disk.let_go.release()
    for thread in threads:
        thread.join(30)
    assert disk.count == 2


def test_a_sync_that_fails_is_nobody_s_success(tmp_path: Path) -> None:
    shared = SharedSync(tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(FileNotFoundError) as caught:
            shared.sync()
        assert caught.value.errno == errno.ENOENT
    (tmp_path / "gone").mkdir()
    shared.sync()
