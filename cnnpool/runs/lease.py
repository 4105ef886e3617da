"""At most one process per working directory: a lock, and a lease renewed while its owner lives.

On one machine the lock (flock) decides; the operating system releases it when its owner dies.
Where several machines share a file system without shared locks, and in a bucket, which has none,
the file `lease.json` decides: its owner renews it every few seconds (the heartbeat), and a lease
that is no longer renewed has expired. Clocks of different machines may disagree, so an old
modification time proves nothing: the file is then watched for a heartbeat. This is not tested on
real network file systems.
"""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import fcntl
import json
import os
from pathlib import Path
import platform
import sys
import threading
import time
import uuid

from cnnpool.errors import CnnpoolError
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_text

LOCK = "lock"
LEASE = "lease.json"
LOCK_ATTEMPTS = 4
BEAT_SECONDS = 5.0
DEAD_AFTER = 4  # missed heartbeats after which an owner counts as dead


class WorkdirBusyError(CnnpoolError):
    """Another process is using the same directory."""


@contextlib.contextmanager
def hold(workdir: Path, *, beat_seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Holds a directory for the duration of the context; creates it if absent.

    Args:
      workdir: the directory.
      beat_seconds: seconds between two heartbeats.

    Raises:
      WorkdirBusyError: if another process holds the directory; at once if it holds the lock, else
        after a heartbeat has been observed.
      OSError: if the directory is not writable.
    """
    with _locked(workdir) as locked:
        path = workdir / LEASE
        _wait_for_the_dead(path, workdir, beat_seconds, locked=locked)
        us = {"host": platform.node(), "pid": os.getpid(), "owner": uuid.uuid4().hex}
        _renew(path, us, beat=0)
        if not locked:  # if two processes start together, the last to write its lease wins
            time.sleep(min(1.0, beat_seconds / 2))
            now = _read(path)
            if now is not None and now["owner"] != us["owner"]:
                raise _busy(workdir, now)
        stop = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, us, stop, beat_seconds), daemon=True)
        heart.start()
        try:
            yield
        finally:
            stop.set()
            heart.join()
            path.unlink(missing_ok=True)


def is_held(workdir: Path) -> bool:
    """Whether a live process seems to hold a directory; see `held`."""
    return workdir in held([workdir])


def held(workdirs: Iterable[Path]) -> set[Path]:
    """The directories on disk that live processes seem to hold. Only looks; takes no lock.

    A lease from this machine is checked against the lock. A lease from another machine counts as
    live if it was renewed a few seconds ago by this machine's clock; the others are watched for
    heartbeats, all at the same time, for `DEAD_AFTER` beats.
    """
    leases = {workdir: lease for workdir in workdirs if (lease := _read(workdir / LEASE))}
    here = {w: lease for w, lease in leases.items() if lease["host"] == platform.node()}
    found = {w for w, lease in here.items() if _is_locked(w / LOCK, lease["pid"])}
    fresh = {w for w in leases.keys() - here.keys() if _is_fresh(w / LEASE)}
    quiet = {w: leases[w] for w in leases.keys() - here.keys() - fresh}
    return found | fresh | _beating(quiet)


def _is_fresh(path: Path) -> bool:
    try:
        return 0 <= time.time() - path.stat().st_mtime < 2 * DEAD_AFTER * BEAT_SECONDS
    except FileNotFoundError:
        return False


_watched: dict[Path, tuple[dict, float]] = {}  # unchanged leases and when they were first seen


def _beating(leases: Mapping[Path, dict]) -> set[Path]:
    """The directories whose leases have changed since the last call, or change while watched."""
    seconds, now = DEAD_AFTER * BEAT_SECONDS, time.monotonic()
    changed = {w for w, lease in leases.items() if w in _watched and _watched[w][0] != lease}
    for workdir, lease in leases.items():
        if workdir in changed or workdir not in _watched:
            _watched[workdir] = (lease, now)
    waiting = {w for w in leases if w not in changed and now - _watched[w][1] < seconds}
    if waiting:
        print(
            f"waiting up to {seconds:g} s for heartbeats from {len(waiting)} processes on other "
            "machines",
            file=sys.stderr,
        )
    while waiting and time.monotonic() - now < seconds:
        time.sleep(min(1.0, BEAT_SECONDS / 2))
        changed |= {w for w in waiting if (_read(w / LEASE) or leases[w]) != leases[w]}
        waiting -= changed
    return changed


def owner(workdir: Path) -> dict | None:
    """The lease (host, pid, owner) of the process that holds or held a directory, or None."""
    return _read(workdir / LEASE)


def _is_locked(path: Path, pid: int) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return _is_alive(pid)
    return False


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[bool]:
    """Holds the directory's lock; yields False where the file system or bucket has no locks."""
    if storage.is_remote(workdir):
        yield False
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("w") as file:
        yield _flock(file, workdir)


def _flock(file, workdir: Path) -> bool:
    for attempt in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError as error:  # held, or being checked right now by `is_held`
            if attempt == LOCK_ATTEMPTS - 1:
                raise _busy(workdir, _read(workdir / LEASE)) from error
            time.sleep(0.1)
        except OSError as error:  # a file system without locks: the lease alone decides
            print(f"{workdir}: this file system has no locks ({error})", file=sys.stderr)
            break
    return False


def _wait_for_the_dead(path: Path, workdir: Path, beat_seconds: float, *, locked: bool) -> None:
    """Returns once the lease has expired; raises WorkdirBusyError if it is renewed."""
    found = _read(path)
    if locked and (found is None or found["host"] == platform.node()):
        return  # this process has the lock, so a lease from this machine is a dead process's
    seconds = DEAD_AFTER * beat_seconds
    if found is not None:
        print(
            f"{workdir}: waiting up to {seconds:g} s to see whether process {found['pid']} on "
            f"{found['host']} is alive",
            file=sys.stderr,
        )
    deadline = time.monotonic() + seconds
    while not _is_absent(path) and time.monotonic() < deadline:
        time.sleep(min(1.0, beat_seconds / 2))
        now = _read(path)
        if now is not None and now != found:
            raise _busy(workdir, now)


def _busy(workdir: Path, lease: dict | None) -> WorkdirBusyError:
    who = f" (process {lease['pid']} on {lease['host']})" if lease else ""
    return WorkdirBusyError(
        f"another process is using {workdir}{who}; wait until it ends, or choose another --workdir"
    )


def _beat(path: Path, owner: dict, stop: threading.Event, seconds: float) -> None:
    beat = 0
    while not stop.wait(seconds):
        beat += 1
        lease = _read(path)
        if lease is not None and lease["owner"] != owner["owner"]:
            print(
                f"error: {path} was taken over by process {lease['pid']} on {lease['host']}, "
                "because this process missed its heartbeats; stopping without saving",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)
        with contextlib.suppress(OSError):  # a full disk does not end the run; retried next beat
            _renew(path, owner, beat)


def _renew(path: Path, owner: dict, beat: int) -> None:
    write_text(path, json.dumps(owner | {"beat": beat}), durable=False)


def _read(path: Path) -> dict | None:
    try:
        lease = json.loads(path.read_text("utf-8"))
        return lease if {"host", "pid", "owner"} <= lease.keys() else None
    except Exception:  # absent or damaged; for buckets, each service raises its own exceptions
        return None


def _is_absent(path: Path) -> bool:
    """Whether there is no lease; a lease that cannot be read at the moment counts as present."""
    try:
        path.read_text("utf-8")
    except FileNotFoundError:
        return True
    except Exception:  # each service raises its own exceptions
        return False
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
