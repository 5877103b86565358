"""Networks as folders that model hubs take: `config.json`, `model.safetensors`, and a card written from the run.

In: a run or a saved network. Out: a folder; `push` sends it to a hub, `load` reads it from there or from the disk.
Only JSON and safetensors are written and read, so that nothing in a downloaded folder is ever run.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from subcam.cam.settings import MAPS_FILE, write_maps_file
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Settings
from subcam.errors import CheckpointError, SettingsError, SubcamError
from subcam.runtime.files import atomic_write, read_json, write_json
from subcam.runtime.run_folder import RECORD, RunFolder

if TYPE_CHECKING:
    from types import ModuleType

    from subcam.data.records import ImageSet
    from subcam.estimator import SubCategoryCAM
    from subcam.networks.classifier import ClassificationNetwork
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.results import FinishedRun, RoundResult, SegmentedResult
else:  # their imports take seconds
    ClassificationNetwork = SubCategoryCAM = SegmentationNetwork = Any
    ImageSet = FinishedRun = RoundResult = SegmentedResult = Any

CARD_FILE = "README.md"

FILES = ("config.json", "model.safetensors", MAPS_FILE, CARD_FILE)
"""All that is ever sent to a hub or fetched from one."""

Kind = Literal["segmentation", "classification"]
REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, kw_only=True)
class FolderSettings(Settings):
    """What goes into a model folder.

    Attributes:
        network: which network of a run; its segmentation network, or else its last classifier, if not given.
        name: what the model is called; the run's folder's name if not given.
        license: the model's licence, by its identifier on the hub ("mit", "cc-by-4.0"); none is stated if not given.
        dataset: what the training images are called; their folder's name if not given.
        data: where the run's images are now, if they have moved; their labels are counted.
    """

    network: Kind | None = None
    name: str = ""
    license: str = ""
    dataset: str = ""
    data: str = ""


@takes_arrays()
def write_folder(source: Path, out: Path, settings: FolderSettings | None = None) -> Path:
    """Write a network with its card into the folder `out`; only these files are replaced in it.

    Paths of this machine do not go along: of the file of weights that the network started from only the name stays.

    Args:
        source: folder of a run, or of a saved network, whose card then knows neither training nor scores.
        out: made if it is not there.
        settings: which network, and what its card is to say.

    Raises:
        SubcamError: there is no such network, it is damaged, or the folder cannot be written.
    """
    settings = settings or FolderSettings()
    run, entry, folder = _find(source, settings.network)  # a wrong path is said before the imports that take seconds

    from subcam.hub.model_card import CardSource, model_card
    from subcam.networks.networks_of_run import CONFIG_FILE

    network = _load(folder)
    weights = network.config.network.weights
    # The two kinds of config have the same field here, but no common type.
    network.config = replace(network.config, network=replace(network.config.network, weights=PurePath(weights).name))
    if out.resolve() == folder.resolve():
        raise SettingsError(f"{out} is the network's own folder; choose another --out")
    with RunFolder(path=out).lock(leave=False):
        network.save(out)
        maps = folder / MAPS_FILE
        if run and kind_of(out) == "classification":
            write_maps_file(out, run.result.settings.cam, run.threshold)
        elif maps.is_file():
            write_json(out / MAPS_FILE, read_json(maps))
        else:
            (out / MAPS_FILE).unlink(missing_ok=True)
        card = model_card(
            CardSource(
                name=settings.name or source.resolve().name,
                config=read_json(out / CONFIG_FILE),
                parameters=sum(parameter.numel() for parameter in network.parameters()),
                run=run,
                network=entry,
                training=_training_images(run, settings.data) if run else None,
                dataset=settings.dataset or _dataset_name(run, settings.data),
                license=settings.license,
            )
        )
        with atomic_write(out / CARD_FILE, "w") as file:
            file.write(card)
    return out


@takes_arrays()
def push(
    folder: Path | str,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Upload a subcam network",
    endpoint: str | None = None,
) -> str:
    """Send a model folder to a hub; its repository is made if it is not there. Needs the package huggingface_hub.

    The folder is loaded first, so that no damaged one is sent, and no other file of it is sent.

    Args:
        folder: what `write_folder` wrote.
        repository: "user/name".
        private: whether only you may see a repository that is new.
        revision: the branch; its main one if not given.
        token: yours; else the one that `hf auth login` keeps.
        message: of the commit.
        endpoint: address of the hub, if it is not Hugging Face's.

    Returns:
        The address of the repository.

    Raises:
        CheckpointError: the folder is not whole, or the hub refuses it; says why.
        SettingsError: huggingface_hub is not installed, or the repository's name cannot be one.
    """
    path = Path(folder)
    if not (path / CARD_FILE).is_file():
        raise CheckpointError(
            f"{path} has no {CARD_FILE}; write the folder with `subcam export hub RUN --out {path}` first"
        )
    _load(path)
    _check_name(repository)
    with _asking_hub(repository) as hub:
        api = hub.HfApi(endpoint=endpoint, token=token, library_name="subcam")
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.upload_folder(
            repo_id=repository,
            folder_path=path,
            revision=revision,
            commit_message=message,
            allow_patterns=list(FILES),
        )
    return address


@takes_arrays()
def load(
    model: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache: Path | None = None,
    endpoint: str | None = None,
) -> SegmentationNetwork | SubCategoryCAM:
    """The network of a folder or of a hub's repository, ready for use on the CPU.

    A segmentation network is a torch module that maps RGB images in 0..255 to logits on a grid; a classifier comes as
    `SubCategoryCAM` with its response maps. Arguments as of `fetch`.

    Raises:
        CheckpointError, SettingsError: as `fetch`; or the folder holds no whole network.
    """
    folder = fetch(model, revision=revision, token=token, cache=cache, endpoint=endpoint)
    _, _, own = _find(folder, None)
    if kind_of(own) == "classification":
        from subcam.estimator import SubCategoryCAM

        return SubCategoryCAM.load(folder)
    from subcam.networks.segmenter import SegmentationNetwork

    return SegmentationNetwork.load(folder).eval()


@takes_arrays()
def fetch(
    model: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """The folder of a model: `model` itself if it is one, else a copy of the hub's repository of that name.

    Args:
        model: a folder, or "user/name", which needs the package huggingface_hub.
        revision: branch, tag or commit; give a commit where the answer must never change.
        token: yours, for private repositories; else the one that `hf auth login` keeps.
        cache: where copies are kept; huggingface_hub's own place if not given.
        endpoint: address of the hub, if it is not Hugging Face's.

    Raises:
        CheckpointError: there is no such folder or repository, or the hub cannot be reached.
        SettingsError: huggingface_hub is not installed, or the name can be neither folder nor repository.
    """
    if Path(model).is_dir():
        return Path(model)
    _check_name(str(model))
    with _asking_hub(str(model)) as hub:
        fetched = hub.snapshot_download(
            str(model),
            revision=revision,
            token=token,
            cache_dir=cache,
            endpoint=endpoint,
            allow_patterns=list(FILES),
            library_name="subcam",
        )
    return Path(fetched)


def kind_of(folder: Path) -> Kind:
    """Which network a saved folder holds, by its config.

    Raises:
        CheckpointError: it has no config, or that of neither.
    """
    from subcam.networks.model_folder import CLASSIFICATION, SEGMENTATION
    from subcam.networks.networks_of_run import CONFIG_FILE

    path = folder / CONFIG_FILE
    config = read_json(path) if path.is_file() else None
    # Folders from before there was a "format" are classifiers.
    name = config.get("format", CLASSIFICATION.name) if isinstance(config, dict) else None
    if name == SEGMENTATION.name:
        return "segmentation"
    if name == CLASSIFICATION.name:
        return "classification"
    raise CheckpointError(
        f"{folder}: expected a segmentation network or a classifier that subcam saved ({CONFIG_FILE} and"
        f" model.safetensors), got {f'one of kind {name!r}' if name else 'none'}; check the path"
    )


def _find(source: Path, kind: Kind | None) -> tuple[FinishedRun | None, SegmentedResult | RoundResult | None, Path]:
    """The run, the network's entry in it, and the network's folder."""
    if not (source / RECORD).is_file():
        if not source.is_dir():
            raise CheckpointError(f"{source}: no such folder; give that of a run or of a saved network")
        own_kind = kind_of(source)
        if kind not in (None, own_kind):
            raise SettingsError(f"{source} holds a network for {own_kind}, and --network asks for {kind}; leave it out")
        return None, None, source

    from subcam.networks.networks_of_run import preferred
    from subcam.results import read_run

    run = read_run(source)
    segmented = preferred(run.result.segmented)
    if segmented is not None and kind != "classification":
        return run, segmented, segmented.model.path
    if kind == "segmentation":
        raise CheckpointError(
            f"{source} is a run without a segmentation network; train one by running it again with segmentation, or"
            " take its classifier with --network classification"
        )
    return run, run.result.last, run.result.last.classifier.path


def _load(folder: Path) -> SegmentationNetwork | ClassificationNetwork:
    if kind_of(folder) == "classification":
        from subcam.networks.classifier import ClassificationNetwork

        return ClassificationNetwork.load(folder)
    from subcam.networks.segmenter import SegmentationNetwork

    return SegmentationNetwork.load(folder)


def _training_images(run: FinishedRun, data: str) -> ImageSet | None:
    """The run's training images with their labels; None if they are no longer there, which is said."""
    from subcam.results import open_images
    from subcam.runtime.progress import say

    try:
        return open_images(run, data=data).train.image_set
    except SubcamError as error:
        if data:
            raise
        say(f"the card does not count the training images: {error}")
        return None


def _dataset_name(run: FinishedRun | None, data: str) -> str:
    """The name of the folder of images, without the folders that it lies in."""
    if run is None:
        return ""
    root = data or run.result.settings.dataset.root
    return "generated images" if root == "toy" else Path(root).resolve().name


def _check_name(repository: str) -> None:
    if not REPOSITORY.fullmatch(repository):
        raise SettingsError(
            f"{repository!r} is neither a folder nor the name of a repository; expected a folder that is there, or"
            " 'user/name'"
        )


@contextmanager
def _asking_hub(repository: str) -> Iterator["ModuleType"]:
    """huggingface_hub, whose errors become ones that say what to do."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise SettingsError(
            f"{repository!r} is no folder here, and for a hub's repository huggingface_hub is needed:"
            " uv pip install huggingface_hub"
        ) from error
    try:
        yield huggingface_hub
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no such revision; check branch, tag or commit") from error
    except errors.GatedRepoError as error:
        raise CheckpointError(f"{repository} asks you to accept its terms first; do so on its page") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{repository}: neither a folder here nor a repository that you may see; check the name, and for a private"
            " one log in with `hf auth login` or give a token"
        ) from error
    except errors.HFValidationError as error:
        raise SettingsError(f"{repository!r} cannot be a repository's name ({_first_line(error)})") from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{repository} could not be fetched, and there is no copy of it here; check the connection, or give a"
            " folder"
        ) from error
    except SubcamError:
        raise
    except Exception as error:  # which errors its transport has, depends on huggingface_hub's version
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise CheckpointError(
            f"{repository}: the hub did not answer as expected ({reason}); check the connection and your rights, and"
            " try again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
