"""The model card of a saved network, `README.md` of its folder: what it is, what it learned from, what it reached.

In: the network's config, the run that trained it and the labels of the images. Out: Markdown with the block of YAML
that model hubs read. All its numbers come from the run's record; what the record does not know, the card says so.
The YAML is written here: a card is made without the optional huggingface_hub, with which the tests read it.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from subcam._version import __version__
from subcam.audit.finding import counted
from subcam.data.records import ImageSet
from subcam.networks.model_folder import SEGMENTATION
from subcam.refine.alphas import alpha_text
from subcam.report.gather.names import ENDINGS, network_name
from subcam.results import FinishedRun, RoundResult, SegmentedResult
from subcam.settings import RunSettings

FEW_IMAGES = 20
"""A class with fewer training images is named among the limits."""

KNOWN_LABELS = {
    "plain": "nothing is known of the image",
    "crf": "nothing is known of the image",
    "known": "the classes in the image are known",
}
"""What a segmentation network knew of the images that it was scored on, by kind of score."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of the card: a share in 0..1 on a split, and what has to be known about it."""

    split: str
    metric: str
    name: str
    value: float
    note: str


@dataclass(frozen=True, kw_only=True)
class CardSource:
    """What a card is written from.

    name: what the model is called.
    config: of the saved network, as its `config.json` has it.
    parameters: how many numbers the network holds.
    run, network: the run that trained it, and the entry of the network in it; None if nothing is known of that.
    training: the training images with their labels; None if they are not at hand.
    dataset: what the training images are called.
    license: an identifier such as "mit" or "cc-by-4.0"; "" if none is given.
    """

    name: str
    config: Mapping[str, Any]
    parameters: int
    run: FinishedRun | None = None
    network: SegmentedResult | RoundResult | None = None
    training: ImageSet | None = None
    dataset: str = ""
    license: str = ""

    @property
    def segments(self) -> bool:
        """Whether the network segments; otherwise it classifies, and its response maps show where."""
        return self.config["format"] == SEGMENTATION.name

    @property
    def fully_supervised(self) -> bool:
        """Whether it learned from masks that people drew."""
        return isinstance(self.network, SegmentedResult) and self.network.trained_on == "truth"

    @property
    def corrected(self) -> bool:
        """Whether masks that people corrected were among those that it learned from."""
        learned = isinstance(self.network, SegmentedResult) and not self.fully_supervised
        return learned and self.run is not None and bool(self.run.result.settings.corrections.named)

    @property
    def given(self) -> str:
        """What another program made that it learned from, by way of pseudo masks or at once; "" where it is a run's."""
        if not isinstance(self.network, SegmentedResult) or self.fully_supervised:
            return ""
        return "masks" if self.network.trained_on == "given" else "response maps" if self.network.of_given else ""


def model_card(source: CardSource) -> str:
    """The whole card: metadata, then sections."""
    parts = [
        f"---\n{_yaml(metadata(source))}---\n\n# {source.name}",
        _what_it_is(source),
        f"## Load it\n\n{_how_to_load(source)}",
        f"## Classes\n\n{_classes(source)}",
        f"## Training\n\n{_training(source)}",
        f"## Scores\n\n{_scores(source)}",
        f"## What masks were used for\n\n{_use_of_masks(source)}",
        f"## Limits\n\n{_bullets(_limits(source))}",
        f"## Licence\n\n{source.license or 'None was given by those who made this model: ask them before you use it.'}",
    ]
    return "\n\n".join(parts) + "\n"


def metadata(source: CardSource) -> dict[str, Any]:
    """What the block of YAML says, as plain values; the fields are those of the Hugging Face hub."""
    task = "image-segmentation" if source.segments else "image-classification"
    splits: dict[str, list[Score]] = {}
    for score in scores_of(source):
        splits.setdefault(score.split, []).append(score)
    results = [
        {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"type": _slug(source.dataset), "name": source.dataset, "split": split},
            "metrics": [
                {"type": score.metric, "name": f"{score.name} ({score.note})", "value": round(score.value, 4)}
                for score in scores
            ],
        }
        for split, scores in splits.items()
    ]
    supervision = ["fully-supervised" if source.fully_supervised else "weakly-supervised"]
    if source.given or source.corrected:  # which of the two, nobody here knows; or both
        supervision = []
    return {
        **({"license": source.license} if source.license else {}),
        "library_name": "subcam",
        "pipeline_tag": task,
        "tags": ["image-segmentation", "semantic-segmentation", *supervision, "subcam"],
        **({"model-index": [{"name": source.name, "results": results}]} if results else {}),
    }


def scores_of(source: CardSource) -> list[Score]:
    """All scores of the network, in the order of the record; those that are not numbers are left out."""
    scores: list[Score] = []
    if isinstance(source.network, SegmentedResult):
        for split, kinds in source.network.scores.items():
            for kind, values in kinds.items():
                scores.append(
                    Score(
                        split=split,
                        metric="mean_iou",
                        name=f"mIoU{ENDINGS.get(kind, f', {kind}')}",
                        value=float(values["miou"]),
                        note=KNOWN_LABELS.get(kind, "see the run's record"),
                    )
                )
    elif isinstance(source.network, RoundResult):
        for split, maps in source.network.scores.items():
            rows = (
                ("mean_iou", "mIoU of response maps", maps.fixed["miou"], maps.threshold_text),
                (
                    "mean_iou",
                    "mIoU of response maps, best case",
                    maps.best["miou"],
                    f"threshold {maps.best_threshold:g}, chosen by looking at these masks",
                ),
                ("mean_average_precision", "mAP of the image-level labels", maps.mean_average_precision, "no masks"),
            )
            scores += [
                Score(split=split, metric=metric, name=name, value=float(value), note=note)
                for metric, name, value, note in rows
            ]
    return [score for score in scores if math.isfinite(score.value)]


def _what_it_is(source: CardSource) -> str:
    network = source.config["network"]
    classes = len(source.config["class_names"])
    if source.segments:
        does = f"Segments images into background and {classes} classes."
        learned = (
            "It learned from masks that people drew."
            if source.fully_supervised
            else f"It learned from {source.given} that were given; the folder does not say how they were made."
            if source.given
            else "It learned from image-level labels, and from masks of some images that people corrected."
            if source.corrected
            else "It learned from image-level labels alone: which classes an image shows, not where."
            if source.network
            else "The folder does not say what it learned from."
        )
        body = f"{source.config['architecture']} on {network['name']}"
    else:
        does = f"Says which of {classes} classes an image shows, and by response maps where."
        learned = "It learned from image-level labels: which classes an image shows."
        body = f"A classifier on {network['name']}"
    return (
        f"{does} {learned}\n\n{body}, {source.parameters / 1e6:.1f} million parameters. Made with subcam {__version__}."
    )


def _how_to_load(source: CardSource) -> str:
    install = (
        "`uv pip install -e .` in a clone of subcam; with `uv pip install huggingface_hub` a repository's name will do"
        " in place of the folder."
    )
    if not source.segments:
        code = (
            "import subcam\n\n"
            'model = subcam.SubCategoryCAM.load("FOLDER")\n'
            'maps = model.response_maps("image.jpg")  # [classes, height, width], 0..1'
        )
        return f"{install}\n\n```python\n{code}\n```"
    code = (
        "import torch\nimport subcam\n\n"
        'network = subcam.hub.load("FOLDER")\n'
        'image = subcam.read_image("image.jpg")  # upright, RGB\n'
        "images = torch.from_numpy(image).permute(2, 0, 1)[None]\n"
        "labels = subcam.segment_labels(network, images)  # 0 background, i + 1 class i"
    )
    shell = "subcam predict FOLDER images --out predictions"
    return f"{install}\n\n```sh\n{shell}\n```\n\n```python\n{code}\n```"


def _classes(source: CardSource) -> str:
    names = source.config["class_names"]
    counts = source.training.labels.sum(0).tolist() if source.training else None
    titles = ("value in masks", "class", *(("training images",) if counts else ()))
    rows: list[Sequence[Any]] = [(0, "background", *(("",) if counts else ()))] if source.segments else []
    for index, name in enumerate(names):
        rows.append((index + 1, name, *((counts[index],) if counts else ())))
    return _table(titles, rows)


def _training(source: CardSource) -> str:
    if source.run is None:
        return "This folder was made from a saved network alone; nothing is known of its training."
    run, settings = source.run, source.run.result.settings
    images = f"{len(source.training)} images" if source.training else "an unknown number of images"
    weights = settings.network.weights
    known = {"timm": "timm's published weights", "package": "the weights of a package", "none": "random weights"}
    start = known.get(weights, f"`{PurePath(weights).name}`")
    said = [
        f"Training images: {images} of {source.dataset or 'a data set without a name'}.",
        f"Recipe: `{run.result.recipe or 'none'}`, {_rounds(source, settings)}, seed {settings.seed}.",
        f"The network started from {start}.",
    ]
    if isinstance(source.network, SegmentedResult):
        article = "" if source.fully_supervised else "the "
        epochs = counted(_epochs(source.network, settings), "epoch")
        said.append(f"It learned from {article}{network_name(source.network)}, {epochs}.")
    elif source.network is not None:
        said.append(f"It is the network of round {source.network.round_index}.")
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items() if version)
    said.append(f"Versions: {versions}.")
    return _bullets(said)


def _rounds(source: CardSource, settings: RunSettings) -> str:
    if source.given:
        return f"{source.given} of another program in the place of its rounds"
    kind = "positions" if settings.route == "prototypes" else "images"
    return f"{counted(settings.last_round, 'round')} after plain CAM, sub-categories of {kind}"


def _epochs(network: SegmentedResult, settings: RunSettings) -> int:
    """The epochs that were carried out: more than the setting's where these have fewer than the least steps."""
    carried_out = network.model.record["outputs"] if network.model.done else {}
    return int(carried_out.get("epochs", settings.segment.train.epochs))


def _scores(source: CardSource) -> str:
    scores = scores_of(source)
    if not scores:
        return "None: there was no image with a mask to score against."
    rows = [(score.split, score.name, f"{100 * score.value:.1f}", score.note) for score in scores]
    table = _table(("split", "score", "per cent", "note"), rows)
    return f"Pixels are counted over all images of a split and divided once, background included.\n\n{table}"


def _use_of_masks(source: CardSource) -> str:
    if source.run is None:
        return "Nothing is known of it."
    said = []
    if source.fully_supervised:
        said.append("The network was trained on ground truth. Do not compare it with weakly supervised ones.")
    elif source.given:
        said.append(f"Nothing is known of how the {source.given} were made that it learned from.")
    elif source.segments:
        result = source.run.result
        masks, made = result.settings.refine.masks, result.refined[-1].made if result.refined else None
        corrected = "Masks that people corrected took the place of the pseudo masks of some training images."
        said.append(corrected if source.corrected else "No mask took part in the training.")
        said.append(
            "The pseudo masks' exponents of the background score: "
            f"{alpha_text(masks.crf_alpha, made.crf_alpha if made else None)} for the CRF, "
            f"{alpha_text(masks.walk_alpha, made.walk_alpha if made else None)} for the random walk; "
            f"`{masks.pseudo_mask}` was learned from."
        )
    else:
        said.append("No mask took part in the training.")
    for last in source.run.mapped[-1:]:
        for split, maps in last.scores.items():
            origin = "that were given" if last.given else f"of round {last.round_index}"
            said.append(f"Response maps {origin} on {split}: {maps.threshold_text}.")
    said.append("Whether a person changed the settings after a look at such scores, this record cannot tell.")
    return _bullets(said)


def _limits(source: CardSource) -> Iterator[str]:
    if source.segments:
        yield "It knows the classes above only: whatever else an image shows becomes background or one of them."
    else:
        yield "Response maps cover the parts of an object that tell its class, often not all of it."
    if not source.fully_supervised:
        yield "What always occurs with a class (rails with trains, water with boats) may be masked as that class."
    if not scores_of(source):
        yield "How good it is was never measured."
    if source.training is not None:
        counts = dict(zip(source.training.class_names, source.training.labels.sum(0).tolist(), strict=True))
        few = [f"{name} ({count})" for name, count in counts.items() if count < FEW_IMAGES]
        if few:
            yield f"Classes with fewer than {FEW_IMAGES} training images: {', '.join(few)}."
    yield "Images unlike those of the training (other cameras, seasons, places) were not tried."


def _bullets(lines: Sequence[str] | Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"


def _yaml(value: Any, *, indent: str = "") -> str:
    """Nested dicts and lists of plain values as YAML, whose scalars are those of JSON."""
    if isinstance(value, Mapping):
        lines = ((f"{indent}{json.dumps(key) if ':' in key else key}:", entry) for key, entry in value.items())
    else:
        lines = ((f"{indent}-", entry) for entry in value)
    text = ""
    for start, entry in lines:
        if isinstance(entry, Mapping | list):
            text += f"{start}\n{_yaml(entry, indent=indent + '  ')}"
        else:
            text += f"{start} {json.dumps(entry, ensure_ascii=False)}\n"
    return text
