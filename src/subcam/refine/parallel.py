"""Work on each image of a set by itself, on all cores and in all processes, in bounded memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait

from subcam.data.records import Record
from subcam.runtime import distributed
from subcam.runtime.devices import MachineSettings, thread_count
from subcam.runtime.progress import bar


def over_images(
    work: Callable[[Record], None],
    records: Sequence[Record],
    *,
    title: str,
    machine: MachineSettings,
    done: Callable[[Record], bool],
) -> None:
    """Call `work` on every record that is not `done`, in threads: the kernels behind it hold no interpreter lock.

    Of several processes each works on its share of the records.

    No more than two images a thread are handed out at a time. The first error ends the work after those under way.
    """
    own = distributed.share(records)
    left = [record for record in own if not done(record)]
    threads = thread_count(machine.threads)
    with bar(title, len(own), done=len(own) - len(left)) as progress, ThreadPoolExecutor(threads) as pool:
        running: set[Future[None]] = set()
        try:
            for record in left:
                running.add(pool.submit(work, record))
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
