"""The stage that segments the images of a data set with a trained network: masks without and with dense CRF."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.data.records import Record
from subcam.networks.segmenter import SegmentationNetwork, for_inference
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import segment_probabilities
from subcam.refine.scores_and_masks import crf_of, mask_path
from subcam.runtime import distributed
from subcam.runtime.devices import Device, HostCopy, one_behind
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage

VERSION = 1
"""Of what this stage computes; raise it when that changes."""

MASKS, CRF_MASKS, KNOWN_MASKS = "masks", "masks-crf", "masks-known"
"""Folders of the masks in the stage's."""

SCORED_AS = {MASKS: "plain", CRF_MASKS: "crf", KNOWN_MASKS: "known"}
"""How results name these folders."""


def variants(settings: InferenceSettings) -> tuple[str, ...]:
    """The folders of masks that these settings lead to."""
    wanted = {MASKS: True, CRF_MASKS: settings.crf, KNOWN_MASKS: settings.known_labels}
    return tuple(variant for variant, is_wanted in wanted.items() if is_wanted)


def run(stage: Stage, *, settings: InferenceSettings, images: CheckedImages, model: Stage, device: Device) -> None:
    """Write the masks of every image.

    Raises:
        BadInputError: an image went bad since it was checked, or the CRF does not fit into memory; names it.
    """
    records, machine, fabric = images.image_set.records, device.machine, device.fabric
    wanted = variants(settings)
    if distributed.is_first():
        for variant in wanted:
            write_legend(stage.path / variant, images.image_set.class_names)
    there = [all(mask_path(stage.path, variant, record.name).is_file() for variant in wanted) for record in records]
    # An interrupted batch is computed again as a whole: in other company its last bits might differ.
    own = distributed.share(same_size_batches(range(len(records)), images.sizes, batch_size=settings.batch_size))
    batches = [batch for batch in own if not all(there[index] for index in batch)]
    total, left = sum(map(len, own)), sum(map(len, batches))
    network = for_inference(SegmentationNetwork.load(model.path), fabric, compiled=machine.compile)

    def segmented() -> Iterator[tuple[tuple[int, ...], HostCopy]]:
        for batch, pixels in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            yield batch, HostCopy(segment_probabilities(network, fabric.to_device(pixels), settings=settings))

    def by_image() -> Iterator[tuple[Record, np.ndarray]]:
        for batch, probabilities in one_behind(segmented(), device=fabric.device):
            yield from zip((records[index] for index in batch), probabilities.numpy(), strict=True)

    threads = thread_count(machine.threads)
    write = partial(_write, folder=stage.path, settings=settings, device=device.of_crf)
    with (
        bar(stage.name, total, done=total - left) as progress,
        closing(threaded_map(write, by_image(), threads=threads, ahead=2 * threads)) as written,
    ):
        for _ in written:
            progress.advance()
    stage.finish({"images": len(records), "variants": wanted})


def _write(
    segmented: tuple[Record, Float[np.ndarray, "channels h w"]],
    *,
    folder: Path,
    settings: InferenceSettings,
    device: torch.device | None,
) -> None:
    record, probabilities = segmented
    by_variant = {MASKS: probabilities}
    if settings.crf:
        by_variant[CRF_MASKS] = crf_of(record, [probabilities], settings.crf_settings, device)[0]
    if settings.known_labels:
        by_variant[KNOWN_MASKS] = _known(record, probabilities, settings, device)
    for variant, scores in by_variant.items():
        labels = scores.argmax(0).astype(np.uint8)
        write_mask(mask_path(folder, variant, record.name), labels, palette=voc_palette(), durable=False)


def _known(
    record: Record,
    probabilities: Float[np.ndarray, "channels h w"],
    settings: InferenceSettings,
    device: torch.device | None,
) -> Float[np.ndarray, "channels h w"]:
    """Probabilities of background and the image's own classes, sharpened by the CRF if there is one; 0 elsewhere."""
    channels = [0, *(label + 1 for label in record.labels)]
    own = probabilities[channels]
    own = own / own.sum(0)
    scores = np.zeros_like(probabilities)
    sharpen = settings.crf and len(own) > 1
    scores[channels] = crf_of(record, [own], settings.crf_settings, device)[0] if sharpen else own
    return scores
