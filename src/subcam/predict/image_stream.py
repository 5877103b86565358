"""Predicts images one after the other: threads read them, the network segments them, threads refine and write.

In: records. Out: a line of the table for each, or why there is none. No image stays in memory once it is written.
"""

import hashlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from subcam.data.image_file import read_file
from subcam.data.images import read_image, read_origin, voc_palette, write_mask
from subcam.data.overlay import overlay_mask
from subcam.data.records import Record, Skipped
from subcam.errors import BadInputError
from subcam.predict.folder import Row, mask_path, overlay_path, probabilities_path, row_of
from subcam.predict.legend import with_legend
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import LogitNetwork, segment_labels, segment_probabilities
from subcam.runtime.devices import HostCopy, to_device
from subcam.runtime.files import atomic_write, file_digest
from subcam.runtime.parallel import alike_together, threaded_map

BATCHED_SIDE = 1024
"""Images with a longer side pass the network one at a time."""

WAITING_BATCHES = 4
"""How many batches' worth of images may wait for others of their size."""

JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is written of each image.

    out: the folder. names: of the labels, background first. overlays, probabilities: whether they are wanted.
    made_with: a digest of the model and the settings.
    """

    out: Path
    names: tuple[str, ...]
    overlays: bool = True
    probabilities: bool = False
    made_with: str = ""

    def are_written(self, record: Record) -> bool:
        """Whether all of it is written."""
        wanted = [mask_path(self.out, record.name)]
        wanted += [overlay_path(self.out, record.name)] if self.overlays else []
        wanted += [probabilities_path(self.out, record.name)] if self.probabilities else []
        return all(path.is_file() for path in wanted)

    def origin(self, image_sha256: str) -> str:
        """What a mask of an image of this digest is made from."""
        return f"image {image_sha256} model {self.made_with}"

    def are_stale(self, record: Record) -> bool:
        """Whether the mask of this name was made from other bytes of its image, another model or other settings.

        So are those that do not say from what; not those whose image cannot be read now.
        """
        mask = mask_path(self.out, record.name)
        try:
            return mask.is_file() and read_origin(mask) != self.origin(file_digest(record.image))
        except BadInputError:
            return False

    def remove(self, record: Record) -> None:
        """Take away what was written of an image."""
        for path_of in (mask_path, overlay_path, probabilities_path):
            path_of(self.out, record.name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class _Image:
    record: Record
    image: UInt8[np.ndarray, "h w 3"]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Segmented:
    """An image and what the network says of it: probabilities where something needs them, else labels.

    output: labels [batch, h, w] or probabilities [batch, channels, h, w] of the batch that it was in. place: its own.
    """

    image: _Image
    output: HostCopy
    place: int
    seconds: float


def predict_each(
    network: LogitNetwork,
    records: Iterable[Record],
    outputs: Outputs,
    *,
    settings: InferenceSettings,
    device: torch.device,
    threads: int,
) -> Generator[Row | Skipped, None, None]:
    """Write what is wanted of each image; yields its line in the table, or why it could not be used.

    The order is about that of `records`: images wait for others of their size.

    Args:
        network: in evaluation mode, on `device`.
        records: what to predict.
        outputs: where to.
        settings: scales, flips and tiles, and the CRF.
        device: of the network.
        threads: that read, and as many that refine and write.
    """
    images = threaded_map(_read, records, threads=threads, ahead=2 * threads)
    groups = alike_together(
        images, _batched_with, most=settings.batch_size, waiting=WAITING_BATCHES * settings.batch_size
    )
    keep = settings.crf or outputs.probabilities
    segmented = (image for group in groups for image in _segment(network, group, settings, device, keep=keep))
    finish = partial(_finish, settings=settings, outputs=outputs)
    yield from threaded_map(finish, segmented, threads=threads, ahead=2 * threads)


def _read(record: Record) -> _Image | Skipped:
    try:
        data = read_file(record.image)
        image = read_image(record.image, data=data)
        return _Image(record=record, image=image, sha256=hashlib.sha256(data).hexdigest())
    except BadInputError as error:
        return Skipped(file=str(record.image), reason=str(error))


def _batched_with(image: _Image | Skipped) -> tuple[int, ...] | None:
    if isinstance(image, Skipped) or max(image.image.shape) > BATCHED_SIDE:
        return None
    return image.image.shape


def _segment(
    network: LogitNetwork,
    group: Sequence[_Image | Skipped],
    settings: InferenceSettings,
    device: torch.device,
    *,
    keep: bool,
) -> Iterator[_Segmented | Skipped]:
    """A group of images of one size through the network; one that could not be read is passed through."""
    usable = [image for image in group if isinstance(image, _Image)]
    yield from (image for image in group if isinstance(image, Skipped))
    if not usable:
        return
    started = time.monotonic()
    stacked = np.stack([image.image for image in usable])
    images = to_device(torch.from_numpy(stacked), device).permute(0, 3, 1, 2)
    segment = segment_probabilities if keep else segment_labels
    output = HostCopy(segment(network, images, settings=settings))
    seconds = (time.monotonic() - started) / len(usable)
    for place, image in enumerate(usable):
        yield _Segmented(image=image, output=output, place=place, seconds=seconds)


def _finish(segmented: _Segmented | Skipped, *, settings: InferenceSettings, outputs: Outputs) -> Row | Skipped:
    """Refine with the CRF, and write: the mask last, as it says that the image is done."""
    if isinstance(segmented, Skipped):
        return segmented
    started = time.monotonic()
    record, image = segmented.image.record, segmented.image.image
    try:
        output = segmented.output.numpy()[segmented.place]
        probabilities = output if output.ndim == 3 else None
        if settings.crf and probabilities is not None:
            probabilities = _refined(record, probabilities, settings)
        labels = output if probabilities is None else probabilities.argmax(0).astype(np.uint8)
        counts = np.bincount(labels.ravel(), minlength=256)
        if outputs.probabilities and probabilities is not None:
            _write_probabilities(probabilities_path(outputs.out, record.name), probabilities, outputs.names)
        if outputs.overlays:
            present = {label: name for label, name in enumerate(outputs.names) if label and counts[label]}
            _write_jpeg(overlay_path(outputs.out, record.name), with_legend(overlay_mask(image, labels), present))
        origin = outputs.origin(segmented.image.sha256)
        write_mask(mask_path(outputs.out, record.name), labels, palette=voc_palette(), durable=False, origin=origin)
    except BadInputError as error:
        return Skipped(file=str(record.image), reason=str(error))
    seconds = segmented.seconds + time.monotonic() - started
    return row_of(record, outputs.out, counts, outputs.names, seconds=f"{seconds:.3f}")


def _refined(record: Record, probabilities: np.ndarray, settings: InferenceSettings) -> np.ndarray:
    from subcam.refine.scores_and_masks import crf_of  # numba takes its time, and few predictions ask for the CRF

    return crf_of(record, [probabilities], settings.crf_settings)[0]


def _write_probabilities(path: Path, probabilities: np.ndarray, names: Sequence[str]) -> None:
    with atomic_write(path, durable=False) as file:
        np.savez_compressed(file, probabilities=probabilities.astype(np.float16), names=np.array(names))


def _write_jpeg(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    with atomic_write(path, durable=False) as file:
        Image.fromarray(image).save(file, format="JPEG", quality=JPEG_QUALITY)
