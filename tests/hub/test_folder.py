"""Model folders: what is in them, what their card says, and a hub on this machine that takes and gives them."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.hub.local_hub import Hub
from tests.predict.saved_network import save_tiny_network
from tests.report.made_run import values

import subcam
from subcam import CheckpointError, SettingsError, SubCategoryCAM, cli, hub
from subcam.hub.model_card import CardSource, metadata, model_card, scores_of
from subcam.networks.segmenter import SegmentationNetwork
from subcam.results import read_run

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra subcam[hub] is not installed")

NAMES = ("cat", "dog", "owl")


@pytest.fixture(scope="module")
def run_folder(tiny_run, tmp_path_factory) -> Path:
    """Rounds 0 and 1 without pseudo masks; the segmentation network is a made one, entered with made scores."""
    from subcam.pipeline import run

    folder = tmp_path_factory.mktemp("hub") / "fishes"
    weights = "/home/anna/secret/mobilenet.safetensors"
    run(replace(tiny_run, refine=replace(tiny_run.refine, rounds="none")), folder, recipe="toy")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    for trained_on, miou in (("pseudo", 0.61234), ("truth", 0.7)):
        place = f"stages/{trained_on}-segment-0123456789"
        save_tiny_network(folder / place, classes=tuple(record["class_names"]))
        config = json.loads((folder / place / "config.json").read_text("utf-8"))
        config["network"]["weights"] = weights
        (folder / place / "config.json").write_text(json.dumps(config), "utf-8")
        ended = {"stage": "segment", "key": "0", "finished": "", "seconds": 1.0, "peak_memory_mib": 1.0}
        carried_out = {"epochs": {"pseudo": 7, "truth": 1}[trained_on]}
        (folder / place / "stage.json").write_text(json.dumps({**ended, "outputs": carried_out}), "utf-8")
        outputs = {"plain": miou, "known": miou + 0.05, "crf": float("nan")}
        scores = {"val": {name: {**values(0.0, len(record["class_names"])), "miou": m} for name, m in outputs.items()}}
        entry = {"trained_on": trained_on, "round": 1, "model": place, "masks": place, "scores": scores}
        record["segment"].append(entry)
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    return folder


@pytest.fixture(scope="module")
def model_folder(run_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model") / "fishes"
    return hub.write_folder(run_folder, out, hub.FolderSettings(license="cc-by-4.0"))


def front_matter(folder: Path) -> dict:
    text = (folder / "README.md").read_text("utf-8")
    return yaml.safe_load(text.split("---\n")[1])


def test_the_folder_is_the_runs_network_and_holds_nothing_else(run_folder, model_folder):
    assert sorted(path.name for path in model_folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    own = SegmentationNetwork.load(run_folder / "stages" / "pseudo-segment-0123456789").state_dict()
    written = hub.load(model_folder)
    assert not written.training
    assert all(torch.equal(own[name], tensor) for name, tensor in written.state_dict().items())


def test_no_path_of_this_machine_goes_along(run_folder, model_folder):
    text = "".join(path.read_text("utf-8", errors="replace") for path in model_folder.iterdir())
    assert "anna" not in text
    assert str(run_folder.parent) not in text
    assert json.loads((model_folder / "config.json").read_text())["network"]["weights"] == "mobilenet.safetensors"


def test_the_metadata_are_what_hubs_read(model_folder):
    found = front_matter(model_folder)
    assert found["license"] == "cc-by-4.0"
    assert found["library_name"] == "subcam"
    assert found["pipeline_tag"] == "image-segmentation"
    assert {"image-segmentation", "weakly-supervised"} <= set(found["tags"])
    card = huggingface_hub.ModelCard.load(model_folder / "README.md")
    results = [(r.task_type, r.dataset_split, r.metric_type, r.metric_value) for r in card.data.eval_results]
    assert results == [
        ("image-segmentation", "val", "mean_iou", 0.6123),
        ("image-segmentation", "val", "mean_iou", 0.6623),
    ]
    assert card.data.eval_results[0].dataset_type == "generated-images"
    assert card.data.model_name == "fishes"


def test_the_card_counts_the_images_and_tells_what_masks_were_used_for(run_folder, model_folder):
    card = (model_folder / "README.md").read_text("utf-8")
    run = read_run(run_folder)
    names = run.result.class_names
    rows = dict(re.findall(r"^\| \d+ \| (\w+) \| (\d+) \|$", card, re.MULTILINE))
    assert set(rows) == set(names)
    with (next(run_folder.glob("toy-*")) / "labels.csv").open() as file:
        lines = [line for line in file if ",train" in line]
    assert {name: int(count) for name, count in rows.items()} == {
        name: sum(name in line for line in lines) for name in names
    }
    assert "Training images: 24 images of generated images." in card
    assert ", 1 round after plain CAM," in card
    assert "It learned from the pseudo masks of round 1, 7 epochs." in card, "as carried out"
    assert "No mask took part in the training." in card
    threshold = run.result.last.scores["val"].fixed_threshold
    assert f"Response maps of round 1 on val: threshold {threshold:g}, given." in card
    assert "| val | mIoU | 61.2 | nothing is known of the image |" in card
    assert "| val | mIoU, labels known | 66.2 | the classes in the image are known |" in card
    assert "Classes with fewer than 20 training images" in card
    assert "nan" not in card


def test_a_network_from_true_masks_is_not_called_weakly_supervised(run_folder):
    run = read_run(run_folder)
    network = run.result.segmented[-1]
    assert network.trained_on == "truth"
    config = json.loads((network.model.path / "config.json").read_text())
    source = CardSource(name="full", config=config, parameters=1, run=run, network=network, dataset="x: y")
    assert "fully-supervised" in metadata(source)["tags"]
    card = model_card(source)
    assert "was trained on ground truth. Do not compare" in card
    assert "It learned from ground truth, 1 epoch." in card
    assert "No mask took part" not in card
    assert yaml.safe_load(card.split("---\n")[1]) == metadata(source)
    assert "an unknown number of images of x: y" in card


def test_corrected_masks_are_named_where_labels_alone_were(run_folder):
    run = read_run(run_folder)
    network = replace(run.result.segmented[-1], trained_on="pseudo")
    settings = run.result.settings.with_({"corrections.folder": "corrected"})
    corrected = replace(run, result=replace(run.result, settings=settings))
    config = json.loads((network.model.path / "config.json").read_text())
    source = CardSource(name="a", config=config, parameters=1, run=corrected, network=network)
    card = model_card(source)
    assert "from image-level labels, and from masks of some images that people corrected." in card
    assert "Masks that people corrected took the place of the pseudo masks of some training images." in card
    assert "No mask took part" not in card
    assert "labels alone" not in card
    assert "weakly-supervised" not in metadata(source)["tags"]
    assert "labels alone" in model_card(replace(source, run=run))


def test_a_classifier_comes_with_the_settings_of_its_maps(run_folder, tmp_path, tiny_run):
    words = ["export", "hub", str(run_folder), "--out", str(tmp_path / "m"), "--network", "classification"]
    assert cli.main([*words, "--name", "Fish finder"]) == 0
    assert (tmp_path / "m" / "response_maps.json").is_file()
    model = hub.load(tmp_path / "m")
    assert isinstance(model, SubCategoryCAM)
    assert model.settings.cam == tiny_run.cam
    card = (tmp_path / "m" / "README.md").read_text()
    assert "\n# Fish finder\n" in card
    assert "chosen by looking at these masks" in card
    found = front_matter(tmp_path / "m")
    assert found["pipeline_tag"] == "image-classification"
    assert "license" not in found
    run = read_run(run_folder)
    values = [metric["value"] for result in found["model-index"][0]["results"] for metric in result["metrics"]]
    scores = run.result.last.scores["val"]
    expected = [scores.fixed["miou"], scores.best["miou"], scores.mean_average_precision]
    assert values == pytest.approx(expected, abs=1e-4)
    # A network without its run has no numbers to tell, and says so.
    hub.write_folder(tmp_path / "m", tmp_path / "again")
    again = (tmp_path / "again" / "README.md").read_text()
    assert "nothing is known of its training" in again
    assert "model-index" not in again
    assert (tmp_path / "again" / "response_maps.json").read_bytes() == (
        tmp_path / "m" / "response_maps.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("config.json", {"class_names": ["x"] * 1_000_000}, "class_names: expected 0 to 65534 entries"),
        ("config.json", {"network": "x"}, "expected the fields of NetworkSettings"),
        ("config.json", {"num_subcategories": "many"}, "num_subcategories"),
        (
            "response_maps.json",
            {"scales": [100.0] * 100},
            "scales: expected at most 400 times an image's pixels in all",
        ),
        ("response_maps.json", {"scales": [1e9]}, "scales"),
        ("response_maps.json", {"background_threshold": "x"}, "expected a number, got 'x'"),
        ("response_maps.json", {"background_threshold": 7}, r"expected a number in 0\.\.1"),
    ],
)
def test_a_folder_that_asks_for_too_much_is_refused(
    tmp_path: Path, name: str, changed: dict[str, object], words: str
) -> None:
    from subcam.cam.settings import CamSettings, write_maps_file
    from subcam.networks.classifier import ClassificationNetwork, ModelConfig
    from subcam.networks.settings import NetworkSettings

    network = NetworkSettings(name="tiny", weights="none")
    ClassificationNetwork(ModelConfig(network=network, class_names=("cat",))).save(tmp_path)
    write_maps_file(tmp_path, CamSettings(), 0.2)
    content = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps(content | changed))
    with pytest.raises(CheckpointError, match=words) as caught:
        hub.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_images_that_are_gone_are_not_counted_and_that_is_said(run_folder, tmp_path, capsys):
    record = json.loads((run_folder / "run.json").read_text("utf-8"))
    record["settings"]["dataset"]["root"] = "gone"
    moved = tmp_path / "run"
    moved.mkdir()
    (moved / "stages").symlink_to(run_folder / "stages")
    (moved / "run.json").write_text(json.dumps(record))
    hub.write_folder(moved, tmp_path / "m")
    assert "does not count the training images" in capsys.readouterr().out
    assert "unknown number of images of gone" in (tmp_path / "m" / "README.md").read_text()
    words = ["export", "hub", str(moved), "--out", str(tmp_path / "m"), "--data", str(tmp_path / "nowhere")]
    assert cli.main(words) == cli.EXIT_USER


def test_predict_takes_such_a_folder(model_folder, tmp_path):
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["predict", str(model_folder), str(tmp_path / "a.png"), "--out", str(tmp_path / "p")]
    assert cli.main([*words, "--threads", "1", "--accelerator", "cpu"]) == 0
    assert Image.open(tmp_path / "p" / "masks" / "a.png").size == (30, 20)


@pytest.fixture
def server(monkeypatch) -> Iterator[Hub]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Hub() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_pushed_to_a_hub_and_loaded_from_it(model_folder, server, tmp_path):
    (model_folder / "private-notes.txt").write_text("not for the hub")
    address = hub.push(model_folder, "anna/fishes", private=True, token="hf_anna", endpoint=server.address)
    (model_folder / "private-notes.txt").unlink()
    assert address == f"{server.address}/anna/fishes"
    assert server.created[0]["name"] == "fishes"
    assert server.created[0]["organization"] == "anna"
    assert server.tokens == {"Bearer hf_anna"}
    assert server.files == {path.name: path.read_bytes() for path in model_folder.iterdir()}

    server.files["hacked.bin"] = b"\x80\x04code"
    loaded = subcam.hub.load("anna/fishes", revision=server.commit, cache=tmp_path, endpoint=server.address)
    assert isinstance(loaded, SegmentationNetwork)
    own = hub.load(model_folder).state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in loaded.state_dict().items())
    assert not any("hacked" in asked for asked in server.asked)
    fetched = hub.fetch("anna/fishes", cache=tmp_path, endpoint=server.address)
    assert sorted(path.name for path in fetched.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_what_a_hub_may_answer(model_folder, server, tmp_path):
    def load(model: str, **words: str) -> None:
        hub.load(model, cache=tmp_path, endpoint=server.address, **words)

    with pytest.raises(CheckpointError, match=r"bob/none: neither a folder here nor a repository that you may see"):
        load("bob/none")
    hub.push(model_folder, "anna/fishes", endpoint=server.address, token="x")
    with pytest.raises(CheckpointError, match="anna/fishes has no such revision"):
        load("anna/fishes", revision="v9")
    with pytest.raises(SettingsError, match="neither a folder nor the name of a repository"):
        load("runs/mine/stages")
    server.shutdown()
    server.server_close()
    with pytest.raises(CheckpointError, match="check the connection"):
        hub.load("anna/other", cache=tmp_path / "new", endpoint=server.address)


def test_without_huggingface_hub_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(SettingsError, match=r"pip install huggingface_hub"):
        hub.load("anna/fishes")
    # A folder needs no hub.
    assert hub.fetch(save_tiny_network(tmp_path / "m")) == tmp_path / "m"


def case_not_written(folder: Path) -> None:
    hub.push(save_tiny_network(folder), "anna/fishes")


def case_weights_cut_off(folder: Path) -> None:
    save_tiny_network(folder)
    (folder / "README.md").write_text("# mine")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    hub.push(folder, "anna/fishes")


def case_affinity(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"format": "subcam-affinity"}')
    hub.load(folder)


def case_empty(folder: Path) -> None:
    folder.mkdir()
    hub.load(folder)


def case_onto_itself(folder: Path) -> None:
    hub.write_folder(save_tiny_network(folder), folder)


def case_other_kind(folder: Path) -> None:
    hub.write_folder(save_tiny_network(folder), folder / "out", hub.FolderSettings(network="classification"))


def case_nowhere(folder: Path) -> None:
    hub.write_folder(folder, folder / "out")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (case_not_written, r"has no README\.md; write the folder with `subcam export hub RUN"),
        (case_weights_cut_off, r"model\.safetensors is not a whole safetensors file"),
        (case_affinity, "expected a segmentation network or a classifier .* got one of kind 'subcam-affinity'"),
        (case_empty, r"expected a segmentation network or a classifier .* got none"),
        (case_onto_itself, "is the network's own folder; choose another --out"),
        (case_other_kind, "holds a network for segmentation, and --network asks for classification"),
        (case_nowhere, "no such folder; give that of a run or of a saved network"),
    ],
)
def test_mistakes(case: Callable[[Path], None], message: str, tmp_path: Path):
    with pytest.raises((CheckpointError, SettingsError), match=message):
        case(tmp_path / "m")


def test_a_run_without_segmentation_says_what_else_it_has(run_folder, tmp_path):
    record = json.loads((run_folder / "run.json").read_text("utf-8"))
    (tmp_path / "run.json").write_text(json.dumps({**record, "segment": []}))
    with pytest.raises(CheckpointError, match="take its classifier with --network classification"):
        hub.write_folder(tmp_path, tmp_path / "m", hub.FolderSettings(network="segmentation"))
    assert scores_of(CardSource(name="", config={}, parameters=0)) == []
