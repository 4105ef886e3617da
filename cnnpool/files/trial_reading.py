"""Tests in a separate process whether an HDF5 file without a checksum can be read.

Corrupted bytes in such a file can make the HDF5 library loop forever or crash, which Python code
cannot intercept. Another process therefore reads the file first. It is this module run as a
program, which imports nothing of cnnpool, and it is kept for further files because it is slow to
start.
"""

import atexit
import functools
import hashlib
import io
import math
import os
import resource
import select
import struct
import subprocess
import sys
import threading
from typing import Any

CPU_SECONDS = 2  # limit per file; an intact file takes 0.02 s
ANSWER_SECONDS = 60.0  # limit of wall-clock time, generous for a busy machine
_MEMORY = 16 << 30  # bytes
_DEFLATED = 1032  # deflate's largest compression ratio, which limits the size of an array
_LENGTH = struct.Struct("<Q")
_LOCK = threading.Lock()
_PROBLEMS: dict[bytes, str] = {}  # by SHA-256, because a file is often read twice: outline, arrays


def problem(content: bytes) -> str:
    """Why a file cannot be read; empty if it can, or if no process can be started."""
    digest = hashlib.sha256(content).digest()
    with _LOCK:
        if digest not in _PROBLEMS:
            _PROBLEMS[digest] = _problem(content)
        return _PROBLEMS[digest]


def _problem(content: bytes) -> str:
    try:
        process = _process()
    except OSError:
        return ""
    answer = _ask(process, content)
    if answer is not None:
        return answer
    _end(process)
    _process.cache_clear()
    return "HDF5 crashes or does not terminate"


@functools.cache
def _process() -> subprocess.Popen:
    command = [sys.executable, "-P", __file__]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen) -> None:
    with process:  # closes the pipes and waits
        process.kill()


def _ask(process: subprocess.Popen, content: bytes) -> str | None:
    """The process's answer about a file; None if the process dies or does not answer in time."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(_LENGTH.pack(len(content)) + content)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    if not select.select([process.stdout], [], [], ANSWER_SECONDS)[0]:
        return None
    line = process.stdout.readline()
    return line.decode("utf-8", "replace").strip() if line.endswith(b"\n") else None


def _serve() -> None:
    """Reads files from standard input until it is closed; answers each with what is wrong."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.RLIM_INFINITY))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that output of libraries is not mistaken for an answer
    while head := sys.stdin.buffer.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        content = sys.stdin.buffer.read(length)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(used.ru_utime + used.ru_stime) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        answers.write(" ".join(_tried(content).split()).encode() + b"\n")
        answers.flush()


def _tried(content: bytes) -> str:
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            _read(file, most=len(content) * _DEFLATED)
    except Exception as error:  # h5py raises OSError, KeyError or RuntimeError for damaged files
        return f"{type(error).__name__}: {error}"
    return ""


def _read(one: Any, *, most: int) -> None:
    """Reads everything that readers access in an h5py group (recursively) or array."""
    list(one.attrs.values())
    if hasattr(one, "keys"):
        for name in one:
            _read(one[name], most=most)
    elif hasattr(one, "shape"):
        list(map(len, one.dims))
        if math.prod(one.shape) * one.dtype.itemsize > most:
            raise ValueError(f"{one.name} is larger, {one.shape}, than the file can hold")
        one[()]


if __name__ == "__main__":
    _serve()
