"""Work in threads, on one item after another or on groups of similar ones, with few items in memory at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from subcam.runtime import distributed
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.progress import bar

Item = TypeVar("Item")
Result = TypeVar("Result")


def threaded_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Generator[Result, None, None]:
    """`work` of each item, in order, done in threads; at most `ahead` items are under way or wait to be taken.

    The next item is asked for in the caller's thread, so `items` may itself be heavy work. An error of `work` or of
    `items` ends it; what is under way is finished first.
    """
    with ThreadPoolExecutor(threads) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) >= ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def alike_together(
    items: Iterable[Item], kind: Callable[[Item], object], *, most: int, waiting: int
) -> Iterator[list[Item]]:
    """Groups of at most `most` items of one kind; at most `waiting` items are held back until a group is full.

    kind: equal for items that may share a group; an item of kind None is a group of its own, at once.
    """
    groups: dict[object, list[Item]] = {}
    count = 0
    for item in items:
        key = kind(item)
        if key is None:
            yield [item]
            continue
        groups.setdefault(key, []).append(item)
        count += 1
        # A dict keeps the order of its keys: the first group has waited longest.
        full = key if len(groups[key]) == most else next(iter(groups)) if count > waiting else None
        if full is not None:
            group = groups.pop(full)
            count -= len(group)
            yield group
    yield from groups.values()


def for_each(
    work: Callable[[Item], object],
    items: Sequence[Item],
    *,
    title: str,
    machine: MachineSettings,
    done: Callable[[Item], bool],
) -> None:
    """Call `work` on every item that is not `done`, in threads: the kernels behind it hold no interpreter lock.

    Of several processes each works on its share of the items.

    No more than two items a thread are handed out at a time. The first error ends the work after those under way.
    """
    own = distributed.share(items)
    left = [item for item in own if not done(item)]
    threads = thread_count(machine.threads)
    with bar(title, len(own), done=len(own) - len(left)) as progress, ThreadPoolExecutor(threads) as pool:
        running: set[Future[object]] = set()
        try:
            for item in left:
                running.add(pool.submit(work, item))
                if len(running) >= 2 * threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                        progress.advance()
            for future in as_completed(running):
                future.result()
                progress.advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
