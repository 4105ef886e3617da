"""One process a working directory: a lock, and a lease whose heartbeat ends with its owner.

On one machine the lock (flock) decides, which the system lets go of when its owner dies. Where
several machines share a file system that does not share locks, and in a bucket, which knows none,
the file `lease.json` decides: its owner renews it every few seconds, and one that is not renewed is
nobody's. Clocks of different machines are not compared: a time that is not of these seconds says
nothing, and whether the heart beats is then watched. Network file systems themselves are not tested
here.
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
DEAD_AFTER = 4  # beats that did not come


class WorkdirBusyError(CnnpoolError):
    """Another process works in the same directory."""


@contextlib.contextmanager
def hold(workdir: Path, *, beat_seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Holds a directory, made if absent, for as long as the context lasts.

    Args:
      workdir: to hold.
      beat_seconds: between two heartbeats.

    Raises:
      WorkdirBusyError: if another process holds it; at once if a lock says so, else after a
        heartbeat has been seen.
      OSError: if nothing can be written there.
    """
    with _locked(workdir) as locked:
        path = workdir / LEASE
        _wait_for_the_dead(path, workdir, beat_seconds, locked=locked)
        us = {"host": platform.node(), "pid": os.getpid(), "owner": uuid.uuid4().hex}
        _renew(path, us, beat=0)
        if not locked:  # of two that begin at once, the one whose lease is there
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
    """Whether a living process seems to hold a directory; see `held`."""
    return workdir in held([workdir])


def held(workdirs: Iterable[Path]) -> set[Path]:
    """The directories on a disk that living processes seem to hold; asks, and takes nothing.

    Of this machine the lock is asked. The lease of another is believed where it was renewed some
    seconds ago by this machine's clock; else it is watched, all of them together, for as long as a
    dead owner is waited for.
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


_watched: dict[Path, tuple[dict, float]] = {}  # leases that did not change, and since when


def _beating(leases: Mapping[Path, dict]) -> set[Path]:
    """Those of some directories whose leases change, now or since they were looked at last."""
    seconds, now = DEAD_AFTER * BEAT_SECONDS, time.monotonic()
    changed = {w for w, lease in leases.items() if w in _watched and _watched[w][0] != lease}
    for workdir, lease in leases.items():
        if workdir in changed or workdir not in _watched:
            _watched[workdir] = (lease, now)
    waiting = {w for w in leases if w not in changed and now - _watched[w][1] < seconds}
    if waiting:
        print(
            f"watching for up to {seconds:g} s whether processes of other machines are alive "
            f"({len(waiting)})",
            file=sys.stderr,
        )
    while waiting and time.monotonic() - now < seconds:
        time.sleep(min(1.0, BEAT_SECONDS / 2))
        changed |= {w for w in waiting if (_read(w / LEASE) or leases[w]) != leases[w]}
        waiting -= changed
    return changed


def owner(workdir: Path) -> dict | None:
    """Host and process id of who holds, or held, a directory; None if nobody."""
    return _read(workdir / LEASE)


def _is_locked(path: Path, pid: int) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return _is_alive(pid)
    return False


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[bool]:
    """Whether there are locks here; this directory's is then held."""
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
        except BlockingIOError as error:  # held, or asked for in this moment by `is_held`
            if attempt == LOCK_ATTEMPTS - 1:
                raise _busy(workdir, _read(workdir / LEASE)) from error
            time.sleep(0.1)
        except OSError as error:  # a file system without locks: the lease alone decides
            print(f"{workdir}: no file locks here ({error})", file=sys.stderr)
            break
    return False


def _wait_for_the_dead(path: Path, workdir: Path, beat_seconds: float, *, locked: bool) -> None:
    """Returns when no other process renews the lease; raises WorkdirBusyError if one does."""
    found = _read(path)
    if locked and (found is None or found["host"] == platform.node()):
        return  # the lock is ours, so that an owner on this machine is dead
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
        f"another process works in {workdir}{who}; wait for it or take another --workdir"
    )


def _beat(path: Path, owner: dict, stop: threading.Event, seconds: float) -> None:
    beat = 0
    while not stop.wait(seconds):
        beat += 1
        lease = _read(path)
        if lease is not None and lease["owner"] != owner["owner"]:
            print(
                f"error: {path} was taken over by process {lease['pid']} on {lease['host']}, as "
                "this one gave no sign of life; it stops without saving",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)
        with contextlib.suppress(OSError):  # a full disk ends no run; it is tried again
            _renew(path, owner, beat)


def _renew(path: Path, owner: dict, beat: int) -> None:
    write_text(path, json.dumps(owner | {"beat": beat}), durable=False)


def _read(path: Path) -> dict | None:
    try:
        lease = json.loads(path.read_text("utf-8"))
        return lease if {"host", "pid", "owner"} <= lease.keys() else None
    except Exception:  # absent or damaged; of a bucket, every service raises its own
        return None


def _is_absent(path: Path) -> bool:
    """Whether there is no lease; one that cannot be read in this moment is there."""
    try:
        path.read_text("utf-8")
    except FileNotFoundError:
        return True
    except Exception:  # every service raises its own
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
