"""What the machine or an image ran out of, read from the errors of libraries, and what to do about it.

Disk, memory, processes; pixels.
"""

import errno

from subcam.runtime.files import is_disk_full

_AGAIN = "the same command resumes"
_NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "Cannot allocate memory")
_NO_THREAD = "can't start new thread"
_WORKER = "DataLoader worker (pid"
_TOO_SMALL = "Kernel size can't be greater than actual input size"
_PEER_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
_COLLECTIVE = ("gloo", "NCCL", "ProcessGroup")


def is_peer_gone(error: BaseException | None) -> bool:
    """Whether another process of the run ended while this one waited for it; its own words say why."""
    while error is not None:
        words = str(error)
        if any(w in words for w in _PEER_GONE) and any(w in words for w in _COLLECTIVE):
            return True
        error = error.__cause__ or error.__context__
    return False


def explain(error: BaseException) -> str | None:
    """One line for the person at the machine, or None where the machine is not what failed."""
    if is_disk_full(error):
        return f"no space left ({error}); free some space and run the same command again"
    if is_peer_gone(error):
        return f"another process of this run has ended, and says why, or who started it does; {_AGAIN}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
            return f"the system takes no path that is so long: {str(cause.filename)!r:.300}; correct it"
        words = str(cause).partition("\n")[0].strip()
        if _WORKER in words:
            return (
                f"a process that prepares images was ended by the system ({words}): most likely memory ran out. Ask "
                "for more memory, or lower --machine.workers (0 needs no such process) or the batch sizes; where it "
                f"says 'Bus error', /dev/shm is too small. {_AGAIN.capitalize()}"
            )
        no_room = isinstance(cause, OSError) and cause.errno in (errno.ENOMEM, errno.EAGAIN)
        if no_room or (isinstance(cause, RuntimeError) and _NO_THREAD in words):
            return (
                f"the system starts no further thread or process, or gives it no memory ({words}); raise its limit"
                f" (ulimit -u, -v), or lower --machine.threads and --machine.workers. {_AGAIN.capitalize()}"
            )
        if isinstance(cause, RuntimeError) and _TOO_SMALL in words:
            return (
                f"an image, at one of the scales, is smaller than the network can take ({words}); take larger images,"
                f" leave out small scales (--cam.scales), or choose another network. {_AGAIN.capitalize()}"
            )
        if isinstance(cause, MemoryError) or (isinstance(cause, RuntimeError) and any(w in words for w in _NO_MEMORY)):
            return (
                f"memory ran out ({words or type(cause).__name__}); ask for more, or lower the batch size, the size of "
                f"crops or --machine.threads (images at a time). With the same settings {_AGAIN}"
            )
        cause = cause.__cause__ or cause.__context__
    return None
