"""Reading and writing files of weights: what is read, what is refused, and that nothing in a file is ever run."""

import argparse
import errno
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from subcam.errors import CheckpointError, RunFolderError
from subcam.networks.weight_files import (
    CLASSIFIER_HEADS,
    find_misfit,
    load_into,
    load_state,
    read_metadata,
    reference_heads,
    save_model,
)


class Trap:
    """A pickle that makes a file when it is opened carelessly."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.sign),)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return {name: torch.rand(tensor.shape) + 1 for name, tensor in network().state_dict().items() if tensor.ndim}


def assert_holds(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, tensor in state.items():
        assert torch.equal(module.state_dict()[name], tensor), name


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
def test_tensors_come_back(tmp_path: Path, state: dict, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    read = load_state(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_what_training_wraps_around_weights_is_taken_off(
    tmp_path: Path, state: dict, wrapper: str | None, prefix: str
) -> None:
    content = {prefix + name: nn.Parameter(tensor) for name, tensor in state.items()}
    torch.save({wrapper: content, "epoch": 3, "best": 0.5} if wrapper else content, tmp_path / "a.pth")
    read = load_state(tmp_path / "a.pth")
    assert read.keys() == state.keys()
    assert not any(tensor.requires_grad for tensor in read.values())


@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(True)])
def test_numbers_of_numpy_beside_the_weights(tmp_path: Path, state: dict, number: object) -> None:
    torch.save({"state_dict": state, "best": number}, tmp_path / "a.pth")
    assert load_state(tmp_path / "a.pth").keys() == state.keys()


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "_orig_mod.", "model.backbone.", "_orig_mod.module.model."])
@pytest.mark.parametrize("beside", [(), ("decode_head.conv.weight", "ema.weight")])
def test_what_frameworks_put_before_names_is_taken_off(
    state: dict, prefix: str, beside: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    module = network()
    others = {name: torch.ones(2) for name in beside}
    load_into(module, {prefix + name: tensor for name, tensor in state.items()} | others)
    assert_holds(module, state)
    assert (f"took what stands under {prefix}, and left out the rest (decode_head" in caplog.text) == bool(beside)


def test_a_prefix_is_taken_off_only_where_the_whole_network_stands_behind_it(state: dict) -> None:
    _, *rest = state
    for wrong in (
        {f"model.{name}": state[name] for name in rest},
        {f"teacher.{name}": tensor for name, tensor in state.items()},
        {f"model.{name}": tensor[:1] for name, tensor in state.items()},
    ):
        with pytest.raises(CheckpointError, match="the network needs, the file lacks"):
            load_into(network(), wrong)
    twice = {f"{prefix}{name}": tensor for prefix in ("model.", "net.") for name, tensor in state.items()}
    with pytest.raises(CheckpointError, match=r"holds this network under model\. and net\.; leave one of them"):
        load_into(network(), twice)


def test_a_name_that_only_some_entries_have_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pth")
    assert load_state(tmp_path / "a.pth").keys() == {"module.a", "b"}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
def test_code_in_a_file_is_not_run(tmp_path: Path, state: dict, *, legacy: bool, hidden: bool) -> None:
    sign, path = tmp_path / "was-here", tmp_path / "hostile.pth"
    content = {"state_dict": state, "optimiser": Trap(sign)} if hidden else Trap(sign)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"hostile\.pth .* never run"):
        load_state(path)
    assert not sign.exists()
    torch.load(path, weights_only=False)
    assert sign.is_dir(), "the trap itself must work, or this test shows nothing"


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("damage", ["cut", "cut early", "noise", "empty", "other format"])
def test_a_damaged_file_is_named(tmp_path: Path, state: dict, name: str, damage: str) -> None:
    path, other = tmp_path / name, tmp_path / "other"
    save_file(state, path) if name.endswith("safetensors") else torch.save(state, path)
    torch.save(state, other) if name.endswith("safetensors") else save_file(state, other)
    whole = path.read_bytes()
    content = {
        "cut": whole[:-40],
        "cut early": whole[:12],
        "noise": b"\x80\x02" + bytes(range(256)) * 3,
        "empty": b"",
        "other format": other.read_bytes(),
    }
    path.write_bytes(content[damage])
    with pytest.raises(CheckpointError, match=name):
        load_state(path)
    if name.endswith("safetensors"):
        with pytest.raises(CheckpointError, match=name):
            read_metadata(path)


def test_missing_file_folder_and_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*gone\.pth"):
        load_state(tmp_path / "gone.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(CheckpointError, match=r"there is no file .*folder\.pth"):
        load_state(tmp_path / "folder.pth")
    (tmp_path / "a.onnx").write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"a\.onnx ends in '\.onnx'; weights are read from \.safetensors"):
        load_state(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list"),
        ({}, "holds a dict; expected a state dict"),
        ({"a": torch.ones(1), "epoch": 3}, r"no named tensors \(1\): epoch \(int\)"),
        ({"a": torch.ones(1), "best": np.float32(0.5)}, r"no named tensors \(1\): best \(float32\)"),
        ({"a": torch.ones(1), "args": argparse.Namespace()}, r"plain tensors \(it holds a argparse\.Namespace\)"),
        ({1: torch.ones(1)}, r"no named tensors \(1\): 1 \(Tensor\)"),
        ({"state_dict": {"a": "text"}}, r"no named tensors \(1\): a \(str\)"),
    ],
)
def test_content_that_is_no_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_state(tmp_path / "a.pth")


def test_loading_puts_every_tensor_in_its_place(state: dict) -> None:
    module = network()
    load_into(module, state)
    assert_holds(module, state)
    assert module[1].num_batches_tracked == 0


def test_loading_keeps_the_networks_precision(state: dict) -> None:
    module = network()
    load_into(module, {name: tensor.half() for name, tensor in state.items()})
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, state["0.weight"].half().float())


def test_all_that_does_not_fit_is_one_error_and_changes_nothing(state: dict) -> None:
    module, before = network(), network().state_dict()
    wrong = {**state, "0.bias": torch.zeros(5), "2.weight": torch.zeros(2, 4, 3, 3), "9.weight": torch.zeros(1)}
    del wrong["1.running_var"]
    with pytest.raises(CheckpointError) as caught:
        load_into(module, wrong, source="a.pth")
    assert str(caught.value) == (
        "a.pth does not fit Sequential; give weights of this very architecture, or name the architecture that the file"
        " is of:\n"
        "  the network needs, the file lacks (1): 1.running_var\n"
        "  the file has, the network has no place for (1): 9.weight\n"
        "  of another shape (2): 0.bias [5] in the file, [4] in the network,"
        " 2.weight [2, 4, 3, 3] in the file, [2, 4, 1, 1] in the network"
    )
    assert_holds(module, before)


def test_a_long_list_is_shortened_and_counted() -> None:
    module = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(30)))
    with pytest.raises(CheckpointError, match=r"lacks \(30\): 0\.weight, .*2\.weight, \.\.\. and 27 more\n") as caught:
        load_into(module, {"a": torch.zeros(1)})
    assert "3.weight" not in str(caught.value)


def test_only_counters_may_be_missing(state: dict) -> None:
    assert not find_misfit(network(), state)
    assert find_misfit(network(), {**state, "0.num_batches_tracked": torch.tensor(1)}).unexpected == (
        "0.num_batches_tracked",
    )
    counted = network()
    load_into(counted, {**state, "1.num_batches_tracked": torch.tensor(7)})
    assert counted[1].num_batches_tracked == 7


@pytest.mark.parametrize(
    "head",
    [
        "fc8.weight",
        "fc8_20.weight",
        "fc8_200.weight",
        "classifier.bias",
        "head.fc.weight",
        "fc.bias",
        "linear1000_bias",
    ],
)
def test_a_classifier_is_left_out_by_rule_and_logged(state: dict, head: str, caplog: pytest.LogCaptureFixture) -> None:
    module = network()
    with pytest.raises(CheckpointError, match=head):
        load_into(module, {**state, head: torch.zeros(1)})
    with caplog.at_level(logging.INFO, "subcam"):
        load_into(module, {**state, head: torch.zeros(1)}, drop=CLASSIFIER_HEADS, source="a.pth")
    assert caplog.messages == [f"a.pth: left out its classifier ({head})"]
    assert_holds(module, state)


@pytest.mark.parametrize("name", ["fc_norm.weight", "f8_3.weight", "heads.weight", "features.fc.weight", "fc81.weight"])
def test_what_is_no_classifier_is_not_left_out(state: dict, name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        load_into(network(), {**state, name: torch.zeros(1)}, drop=CLASSIFIER_HEADS)


def test_a_head_that_the_network_has_is_loaded() -> None:
    module = nn.ModuleDict({"head": nn.Linear(2, 3, bias=False)})
    load_into(module, {"head.weight": torch.ones(3, 2)}, drop=CLASSIFIER_HEADS)
    assert torch.equal(module["head"].weight, torch.ones(3, 2))


def test_first_parts_of_names_can_be_changed(state: dict) -> None:
    module = network()
    old = {("old.body" + name[1:] if name[0] == "0" else "wrap." + name): tensor for name, tensor in state.items()}
    load_into(module, old, rename={"old.body": "0", "wrap": ""})
    assert_holds(module, state)
    with pytest.raises(CheckpointError, match=r"come twice: 0\.weight"):
        load_into(module, {**state, "a.weight": state["0.weight"]}, rename={"a": "0"})
    with pytest.raises(CheckpointError, match=r"wrap\.1\.weight"):
        load_into(module, old, rename={"old.body": "0", "wra": ""})


def test_saved_model_comes_back_with_its_words(tmp_path: Path) -> None:
    module = network().to(memory_format=torch.channels_last)
    path = tmp_path / "new" / "model.safetensors"
    save_model(path, module.state_dict(), {"mean": "0.5,0.5,0.5", "format": "subcam"})
    read = load_state(path)
    assert read.keys() == module.state_dict().keys()
    assert_holds(module, read)
    assert read_metadata(path) == {"mean": "0.5,0.5,0.5", "format": "subcam"}
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]
    with safe_open(path, "pt") as file:
        assert file.get_tensor("1.num_batches_tracked").dtype == torch.int64


def test_tied_and_sliced_tensors_are_saved_as_they_are(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    state = {"whole": base, "again": base, "rows": base[1:], "column": base[:, 1], "turned": base.T}
    save_model(tmp_path / "a.safetensors", state, {})
    read = load_state(tmp_path / "a.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
    assert read_metadata(tmp_path / "a.safetensors") == {}


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, state: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, state, {"round": "1"})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFolderError, match="no space left"):
        save_model(path, {name: tensor * 2 for name, tensor in state.items()}, {"round": "2"})
    assert read_metadata(path) == {"round": "1"}
    assert torch.equal(load_state(path)["0.weight"], state["0.weight"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_files_of_torch_have_no_words(tmp_path: Path, state: dict) -> None:
    torch.save(state, tmp_path / "a.pth")
    assert read_metadata(tmp_path / "a.pth") == {}


def test_heads_of_the_published_networks() -> None:
    first, second = torch.rand(20, 8, 1, 1), torch.rand(200, 8, 1, 1)
    assert reference_heads({"bn7.weight": torch.ones(8)}) == {}
    heads = reference_heads({"fc8.weight": first, "f9.weight": second})
    assert heads.keys() == {"parent"}
    assert torch.equal(heads["parent"], first[:, :, 0, 0])
    heads = reference_heads({"fc8_200.weight": second, "fc8_20.weight": first[:, :, 0, 0]})
    assert torch.equal(heads["parent"], first[:, :, 0, 0])
    assert torch.equal(heads["subcategory"], second[:, :, 0, 0])


def test_heads_that_make_no_sense_are_refused() -> None:
    with pytest.raises(CheckpointError, match="more than one parent head; fc8_20"):
        reference_heads({"fc8.weight": torch.ones(20, 8, 1, 1), "fc8_20.weight": torch.ones(20, 8, 1, 1)})
    with pytest.raises(CheckpointError, match=r"fc8\.weight has shape \[20, 8, 3, 3\]"):
        reference_heads({"fc8.weight": torch.ones(20, 8, 3, 3)})
