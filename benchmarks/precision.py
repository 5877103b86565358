"""What bf16 and 8-bit storage on a coarser grid do to speed and scores of response maps, against float32 at full size.

Usage: python benchmarks/precision.py --model runs/mine/stages/round0-classify-... --data DIR --classes cat cow ...
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from subcam.cam.map_files import ResponseMaps
from subcam.cam.map_grid import coarsen
from subcam.cam.multiscale import multiscale_response
from subcam.data.dataset import open_dataset
from subcam.data.images import read_image, read_mask
from subcam.data.settings import DatasetSettings
from subcam.metrics.threshold_sweep import ThresholdSweep
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.runtime.devices import build_fabric
from subcam.runtime.machine.settings import MachineSettings


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """model: folder of a trained network. images: how many of the scored images; 0 for all."""

    model: Path
    dataset: DatasetSettings
    split: str = "val"
    images: int = 0
    stride: int = 4
    work: Path = Path("runs/benchmark")


def main() -> None:
    arguments = tyro.cli(Arguments)
    torch.set_num_threads(1)
    images = open_dataset(arguments.dataset, work_folder=arguments.work).scored[arguments.split].image_set
    records = [record for record in images.records if record.mask][: arguments.images or None]
    num_classes = images.num_classes + 1
    networks = {
        precision: for_inference(
            ClassificationNetwork.load(arguments.model), build_fabric(MachineSettings(threads=1), precision=precision)
        )
        for precision in ("32-true", "bf16-mixed")
    }
    names = ("float32, full size", "float32, stored", "bf16, full size", "bf16, stored")
    sweeps = {name: ThresholdSweep(num_classes) for name in names}
    seconds = dict.fromkeys(networks, 0.0)
    stored_bytes = full_bytes = 0
    for record in records:
        image = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
        labels = torch.zeros(1, images.num_classes, dtype=torch.uint8)
        labels[0, list(record.labels)] = 1
        classes = labels[0].nonzero().flatten().numpy()
        assert record.mask is not None
        truth = read_mask(record.mask, images.mask_values)
        for precision, network in networks.items():
            started = time.perf_counter()
            found = multiscale_response(network, image, labels)[0]
            seconds[precision] += time.perf_counter() - started
            short = "float32" if precision == "32-true" else "bf16"
            stored = coarsen(found.maps, arguments.stride)
            back = ResponseMaps(
                maps=stored,
                classes=classes.astype("int16"),
                subcategory_maps=stored[:, None, :0],
                logits=found.logits.numpy(),
                size=(truth.shape[0], truth.shape[1]),
            )
            sweeps[f"{short}, full size"].add(found.maps.numpy(), classes, truth)
            sweeps[f"{short}, stored"].add(back.full_size(), classes, truth)
            stored_bytes += stored.nbytes
            full_bytes += found.maps.numel() * 4
    table = Table(title=f"{len(records)} images, one thread")
    for column in ("maps", "s/image", "mIoU at 0.15", "mIoU at 0.2", "best mIoU"):
        table.add_column(column)
    for name, sweep in sweeps.items():
        time_each = seconds["32-true" if name.startswith("float32") else "bf16-mixed"] / len(records)
        values = (sweep.at(0.15).miou, sweep.at(0.2).miou, sweep.best().scores.miou)
        table.add_row(name, f"{time_each:.3f}", *(f"{100 * value:.3f}" for value in values))
    console = Console()
    console.print(table)
    console.print(
        f"speed bf16 / float32: {seconds['32-true'] / seconds['bf16-mixed']:.2f};"
        f" bytes stored / float32 at full size: {stored_bytes / full_bytes:.4f}"
    )


if __name__ == "__main__":
    main()
