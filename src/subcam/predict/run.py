"""Segment any images with a trained network: masks, overlays and tables in a folder, at bounded memory.

What is done is on disk, so an interrupted prediction resumes; one bad file does not stop it.
"""

import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from subcam.data.image_file import at_most
from subcam.data.records import Record, Skipped
from subcam.errors import BadInputError
from subcam.networks.networks_of_run import CONFIG_FILE, WEIGHTS_FILE
from subcam.networks.segmenter import SegmentationNetwork
from subcam.predict.find_images import find_images
from subcam.predict.find_model import find_model
from subcam.predict.folder import Table, check_same, write_classes, write_failures
from subcam.predict.image_stream import Outputs, predict_each
from subcam.predict.settings import PredictSettings
from subcam.runtime import distributed
from subcam.runtime.devices import check_accelerator, join
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.files import file_digest
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import bar, warn
from subcam.runtime.run_folder import RunFolder, fingerprint

MOST_TILED_PIXELS = 1 << 30
"""Pixels of an image that goes through in tiles: it is in memory as a whole, 3 GiB at most."""


@dataclass(frozen=True, kw_only=True)
class PredictResult:
    """How it went.

    predicted: images done this time. before: those done by earlier attempts. failed: those that could not be used.
    """

    predicted: int
    before: int
    failed: tuple[Skipped, ...]
    seconds: float


def predict(
    settings: PredictSettings, *, model: Path, inputs: Sequence[Path], out: Path, lists: Sequence[Path] = ()
) -> PredictResult:
    """Write the masks of all images that are not there yet; of several processes each those of its share.

    Args:
        settings: how.
        model: folder of a saved segmentation network, or of a run that trained one.
        inputs: images, and folders of images.
        out: where the predictions go; made if it is not there.
        lists: text files with the path of an image on each line.

    Raises:
        SubcamError: no model, no images, names that collide, a folder in use or of other predictions, or not one
            image that could be used.
    """
    started = time.monotonic()
    images = find_images(inputs, lists=lists, outputs=out)
    records = images.records
    if images.unread and settings.on_bad_input == "stop":
        raise BadInputError(images.unread[0].reason)
    folder = find_model(model)
    own_device = join(settings.machine)
    # In tiles, an image needs little more memory than its own pixels take.
    with RunFolder(path=out).lock(), at_most(MOST_TILED_PIXELS) if settings.inference.tile else nullcontext():
        network = SegmentationNetwork.load(folder)
        names = ("background", *network.config.class_names)
        with distributed.first_goes_ahead():
            made_with = _made_with(settings, folder)
            check_same(out, made_with)
        if distributed.is_first():
            write_classes(out, names)
        table = Table(out, names)
        outputs = Outputs(
            out=out,
            names=names,
            overlays=settings.overlays,
            probabilities=settings.probabilities,
            made_with=fingerprint(made_with),
        )
        threads = thread_count(settings.threads)
        own = distributed.share(records)
        _remove_stale(own, outputs, table, threads=threads)
        done = [record for record in own if outputs.are_written(record)]
        done_names = {record.name for record in done}
        left = [record for record in own if record.name not in done_names]
        device = _place(network, settings, threads, device=own_device)
        results = predict_each(network, left, outputs, settings=settings.inference, device=device, threads=threads)
        failed: list[Skipped] = list(images.unread) if distributed.is_first() else []
        unread = len(failed)
        begun = time.monotonic()
        # Only the first process writes lines while it works, and those of the others' masks at the end.
        growing = table.begin(done) if distributed.is_first() else nullcontext()
        with growing, bar("predict", len(done) + len(left), done=len(done)) as progress, closing(results):
            try:
                for count, result in enumerate(results, start=1):
                    if not isinstance(result, Skipped):
                        if distributed.is_first():
                            table.add(result)
                    else:
                        failed.append(result)
                        if settings.on_bad_input == "stop":
                            raise BadInputError(result.reason)
                    progress.advance(note=f"{count / (time.monotonic() - begun):.1f} images/s")
            finally:
                if distributed.is_first():
                    write_failures(out, failed)
        predicted = int(distributed.total(np.array(len(left) - (len(failed) - unread))))
        if distributed.world_size() > 1:
            failed = _of_all(failed)
            if distributed.is_first():
                with table.begin(record for record in records if outputs.are_written(record)):
                    write_failures(out, failed)
    if len(failed) == len(records) + len(images.unread):
        raise BadInputError(f"expected at least one usable image, got none of {len(failed)}; {failed[0].reason}")
    return PredictResult(
        predicted=predicted,
        before=int(distributed.total(np.array(len(done)))),
        failed=tuple(failed),
        seconds=time.monotonic() - started,
    )


def _remove_stale(records: Sequence[Record], outputs: Outputs, table: Table, *, threads: int) -> None:
    """Take away what was made of other images under these names, so that it is made anew.

    Raises:
        SettingsError: a mask was made from an image in another place that is another image.
    """
    stale = [
        record
        for record, is_stale in zip(
            records, threaded_map(outputs.are_stale, records, threads=threads, ahead=8 * threads), strict=True
        )
        if is_stale
    ]
    for record in stale:
        table.check_origin(record)
    for record in stale:
        outputs.remove(record)
    names = [record.name for record in stale]
    if distributed.world_size() > 1:
        names = distributed.gathered_texts(names)
    for name in names:
        table.forget(name)
    if names:
        warn(
            f"{len(names)} masks in {outputs.out} are of images that have changed since, or do not say what they were"
            " made from: they are made anew"
        )


def _of_all(failed: Sequence[Skipped]) -> list[Skipped]:
    """What all processes could not use, in the first process; nothing in the others."""
    files = distributed.gathered_texts([skipped.file for skipped in failed])
    reasons = distributed.gathered_texts([skipped.reason for skipped in failed])
    return [Skipped(file=file, reason=reason) for file, reason in zip(files, reasons, strict=True)]


def _made_with(settings: PredictSettings, folder: Path) -> dict[str, Any]:
    """All that the masks depend on."""
    inference = as_plain(settings.inference)
    del inference["batch_size"]
    if not settings.inference.crf:
        del inference["crf_settings"]
    return {
        "model": file_digest(folder / WEIGHTS_FILE),
        "config": file_digest(folder / CONFIG_FILE),
        "precision": settings.resolved_precision,
        **inference,
    }


def _place(
    network: SegmentationNetwork, settings: PredictSettings, threads: int, *, device: torch.device | None
) -> torch.device:
    """Put the network in evaluation mode on the device, in its precision; without Fabric, which is slow to import.

    device: this process's own where there are several; None finds one.
    """
    kind = settings.accelerator
    check_accelerator(kind)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = device or torch.device(kind)
    low = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(settings.resolved_precision)
    if low is not None:
        network.autocast = partial(torch.autocast, device.type, dtype=low)
    torch.set_num_threads(threads)
    network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return device
