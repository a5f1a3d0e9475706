"""Bytes on disk: durable, ours by name, tied to one database."""

import errno
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import DiskFullError, StorageError, StorageForeignError
from dicomnode.storage import Storage, folder

NODE = "7c1f7f2e-5a0e-4a43-9d0c-0d7b4c3f8a10"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(tmp_path / "store", NODE, adopt_empty=True)


def arrive(storage: Storage, content: bytes = b"bytes") -> Path:
    path = storage.new_arrival()
    path.write_bytes(content)
    return path


def test_a_kept_file_is_found_again_under_its_name(storage: Storage) -> None:
    name = storage.keep(arrive(storage), "2026-11-21")
    assert storage.kept(name).read_bytes() == b"bytes"
    assert list(storage.kept_names()) == [name]
    assert list(storage.arrivals.iterdir()) == []


def test_an_image_is_kept_only_in_a_day_whose_own_entry_is_synced(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made the folder, and died or is not done: its being there says nothing."""
    day = "2026-11-21"
    (storage.root / "in" / day).mkdir()
    synced: list[str] = []
    sync = folder.sync_folder

    def noted(path: Path) -> None:
        synced.append(path.name)
        sync(path)

    monkeypatch.setattr(folder, "sync_folder", noted)
    for _ in range(2):
        storage.keep(arrive(storage), day)
    assert synced == ["in", day, day]


def test_a_second_thread_waits_until_the_days_entry_is_synced(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, may_go = threading.Event(), threading.Event()
    sync = folder.sync_folder

    def slow(path: Path) -> None:
        if path.name == "in":
            syncing.set()
            may_go.wait(10)
        sync(path)

    monkeypatch.setattr(folder, "sync_folder", slow)
    keepers = [
        threading.Thread(target=storage.keep, args=(arrive(storage), "2026-11-21"))
        for _ in range(2)
    ]
    for keeper in keepers:
        keeper.start()
        assert syncing.wait(10)
    time.sleep(0.2)
    assert not list(storage.kept_names())
    may_go.set()
    for keeper in keepers:
        keeper.join(10)
    assert len(list(storage.kept_names())) == 2


def test_a_day_that_was_removed_is_made_again(storage: Storage) -> None:
    day = "2026-01-01"
    storage.delete_kept(storage.keep(arrive(storage), day))
    storage.remove_empty_days()
    assert not (storage.root / "in" / day).exists()
    assert storage.kept(storage.keep(arrive(storage), day)).is_file()


def test_a_day_whose_entry_cannot_be_synced_keeps_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folder, "sync_folder", broken)
    for _ in range(2):
        with pytest.raises(StorageError):
            storage.keep(arrive(storage), "2026-11-21")
    assert not list(storage.kept_names())


def test_the_folder_of_another_database_is_refused(storage: Storage) -> None:
    with pytest.raises(StorageForeignError, match="another database"):
        Storage.open(storage.root, "another-id", adopt_empty=True)


def test_an_unmarked_folder_with_images_is_refused(storage: Storage) -> None:
    storage.keep(arrive(storage), "2026-11-21")
    (storage.root / "dicomnode.id").unlink()
    with pytest.raises(StorageForeignError, match="holds images"):
        Storage.open(storage.root, NODE, adopt_empty=True)


def test_an_empty_folder_is_refused_when_the_worklist_lists_images(tmp_path: Path) -> None:
    with pytest.raises(StorageForeignError, match="already lists images"):
        Storage.open(tmp_path / "unmounted", NODE, adopt_empty=False)


@given(st.text(max_size=80))
def test_no_text_from_outside_is_a_name(name: str) -> None:
    storage = Storage(Path("/nowhere"))
    with pytest.raises(ValueError, match="not a name"):
        storage.kept(name)
    with pytest.raises(ValueError, match="not a name"):
        storage.result(name)


@pytest.mark.parametrize(
    "name", ["../x.dcm", "/etc/passwd", "2026-11-21/../../x.dcm", "1.2.3.dcm/"]
)
def test_paths_are_not_names(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        storage.kept(name)


def test_a_result_says_whose_it_is_and_goes_with_its_fence(storage: Storage) -> None:
    storage.stage_result(7, 1, 1, b"old")
    kept = storage.stage_result(7, 2, 1, b"new")
    storage.discard_results(7, 1)
    (left,) = storage.result_names()
    assert (left.name, left.job_id, left.fence, left.number) == (kept, 7, 2, 1)


def _hold(root: str, ready: object, stop: object) -> None:
    with Storage(Path(root)).claim_receiver():
        ready.set()  # type: ignore[attr-defined]
        stop.wait(10)  # type: ignore[attr-defined]


def test_a_second_receiver_on_one_folder_is_refused(storage: Storage) -> None:
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(storage.root), ready, stop))
    other.start()
    try:
        assert ready.wait(20)
        with pytest.raises(StorageError, match="another receiver"), storage.claim_receiver():
            pass
    finally:
        stop.set()
        other.join(10)
    with storage.claim_receiver():
        pass


def test_a_full_disk_has_an_error_of_its_own_and_leaves_nothing(
    storage: Storage, tmp_path: Path
) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write, as a full disk does."""
    pid = os.fork()
    if pid == 0:
        import resource  # noqa: PLC0415
        import signal  # noqa: PLC0415

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            storage.stage_result(1, 1, 1, b"x" * 5000)
        except DiskFullError:
            os._exit(0 if not list(storage.result_names()) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_broken_transfers_left_is_cleared(storage: Storage) -> None:
    arrive(storage)
    assert storage.clear_arrivals(older_than_s=3600) == 0
    assert storage.clear_arrivals() == 1


def test_free_space_is_a_share_of_the_disk(storage: Storage) -> None:
    free = storage.free()
    assert 0 < free.free_bytes <= free.total_bytes
    assert free.fraction == pytest.approx(free.free_bytes / free.total_bytes)
