"""The MXNet reader against files that MXNet wrote, and against files that nobody should trust."""

import json
import math
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from subcam.errors import CheckpointError
from subcam.networks.backbones.resnet38 import ResNet38
from subcam.networks.mxnet_params import DTYPES, read_mxnet_params, resnet38_from_mxnet, torch_name

LAYOUTS = ("tiny", "tiny_v1", "tiny_legacy")
HEADS = {
    "v2": lambda shape: struct.pack(f"<IiI{len(shape)}q", 0xF993FAC9, 0, len(shape), *shape),
    "v1": lambda shape: struct.pack(f"<II{len(shape)}q", 0xF993FAC8, len(shape), *shape),
    "legacy": lambda shape: struct.pack(f"<I{len(shape)}I", len(shape), *shape),
}


def record(array: np.ndarray, *, layout: str = "v2") -> bytes:
    """One array as MXNet lays it out; an independent writer to hold the reader against."""
    flag = {np.dtype(text): flag for flag, text in DTYPES.items()}[array.dtype]
    return HEADS[layout](array.shape) + struct.pack("<iii", 1, 0, flag) + array.tobytes()


def list_file(records: list[bytes], names: list[str]) -> bytes:
    packed = b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in names)
    return b"".join([struct.pack("<QQQ", 0x112, 0, len(records)), *records, struct.pack("<Q", len(names)), packed])


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "mxnet_params"


@pytest.fixture(scope="module")
def key_map(folder: Path) -> dict:
    return json.loads((folder / "key_map.json").read_text("utf-8"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_recorded_arrays_bit_by_bit(folder: Path, key_map: dict, layout: str) -> None:
    params = read_mxnet_params(folder / f"{layout}.params")
    assert list(params) == key_map["file_key_order"]
    shapes = {**key_map["key_map"], **key_map["skipped"]}
    assert {name: list(array.shape) for name, array in params.items()} == {
        n: v["tiny_shape"] for n, v in shapes.items()
    }
    with np.load(folder / "tiny_expected.npz", allow_pickle=False) as file:
        expected = dict(file)
    state = resnet38_from_mxnet(params)
    assert state.keys() == expected.keys()
    assert len(state) == 191
    for name, tensor in state.items():
        assert tensor.numpy().dtype == expected[name].dtype == np.float32
        assert tensor.shape == expected[name].shape, name
        assert tensor.numpy().tobytes() == expected[name].tobytes(), name


def test_names_follow_the_rule_at_the_real_shapes(key_map: dict) -> None:
    own = {n: list(t.shape) for n, t in ResNet38().state_dict().items() if not n.endswith("num_batches_tracked")}
    assert {name: torch_name(name) for name in key_map["key_map"]} == {
        name: entry["torch"] for name, entry in key_map["key_map"].items()
    }
    assert {torch_name(name): entry["full_shape"] for name, entry in key_map["key_map"].items()} == own
    assert [torch_name(name) for name in key_map["skipped"]] == [None, None]


@pytest.mark.parametrize(
    "name",
    [
        "arg:bn7_weight",
        "arg:res8a_branch1_weight",
        "bn7_gamma",
        "arg:res4b0_branch2a_weight",
        "arg:conv1a_weight_0",
        "",
    ],
)
def test_other_names_have_no_place(name: str) -> None:
    assert torch_name(name) is None


def test_arrays_of_another_network_are_listed() -> None:
    params = {f"arg:stage{i}_weight": np.zeros(1, np.float32) for i in range(25)} | {"arg:conv1a_weight": np.zeros(1)}
    with pytest.raises(CheckpointError, match=r"not ResNet-38's \(25 of 26\): arg:stage0_weight, .* and 5 more"):
        resnet38_from_mxnet(params)


@settings(max_examples=40, deadline=None)
@given(
    arrays=st.lists(
        st_numpy.arrays(
            dtype=st.sampled_from(list(DTYPES.values())),
            shape=st_numpy.array_shapes(min_dims=1, max_dims=5, max_side=4),
            elements=st.integers(0, 100),
        ),
        max_size=4,
    ),
    layout=st.sampled_from(sorted(HEADS)),
)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, arrays: list, layout: str) -> None:
    path = tmp_path_factory.mktemp("params") / "a.params"
    names = [f"arg:ü{i}" for i in range(len(arrays))]
    path.write_bytes(list_file([record(array, layout=layout) for array in arrays], names))
    read = read_mxnet_params(str(path))
    assert list(read) == names
    for array, back in zip(arrays, read.values(), strict=True):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_anywhere_is_one_clear_error(folder: Path, tmp_path: Path, layout: str) -> None:
    whole = (folder / f"{layout}.params").read_bytes()
    path = tmp_path / "cut.params"
    for length in [*range(0, 60), *range(60, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.params is not a whole MXNet"):
            read_mxnet_params(path)


ONE = np.ones((2, 3), np.float32)


def claim(shape: tuple[int, ...], *, layout: str = "v2", flag: int = 0, values: bytes = b"") -> bytes:
    """A file whose one record claims a shape and a type, whatever bytes follow."""
    return list_file([HEADS[layout](shape) + struct.pack("<iii", 1, 0, flag) + values], ["a"])


HOSTILE = {
    "arrays without end": (struct.pack("<QQQ", 0x112, 0, 2**63), "number of arrays is"),
    "a large array": (claim((2**40,)), "needs 4398046511104 bytes"),
    "a product past 64 bits": (claim((2**62, 2**62)), "needs"),
    "a product that wraps to 0": (claim((2**32, 2**32)), "needs"),
    "a large legacy array": (claim((2**32 - 1,) * 4, layout="legacy"), "needs"),
    "dimensions without end": (list_file([struct.pack("<III", 2**31, 1, 1) + bytes(12)], ["a"]), "2147483648 dim"),
    "no dimension": (claim(()), "0 dimensions"),
    "a negative side": (claim((-3, -2), values=bytes(24)), r"\[-3, -2\]"),
    "an empty side": (claim((0, 2), layout="v1"), r"shape \[0, 2\]"),
    "a sparse array": (list_file([struct.pack("<IiI", 0xF993FAC9, 1, 1) + bytes(20)], ["a"]), "sparse"),
    "an unknown type": (claim((1,), flag=99, values=bytes(4)), "type 99"),
    "a name without end": (list_file([record(ONE)], [])[:-8] + struct.pack("<QQ", 1, 2**60), "name's length"),
    "names without end": (list_file([record(ONE)], [])[:-8] + struct.pack("<Q", 2**61), "number of names"),
    "no names": (list_file([record(ONE)], []), "1 arrays with 0 names"),
    "a name twice": (list_file([record(ONE), record(ONE)], ["a", "a"]), "a name twice"),
    "bytes behind the end": (list_file([record(ONE)], ["a"]) + b"\0", "1 bytes after the end"),
    "another magic": (struct.pack("<QQQ", 0x113, 0, 0), "starts with 0x113"),
    "a zip archive": (b"PK\3\4" + bytes(200), "starts with"),
    "a name that is no text": (list_file([record(ONE)], ["a"])[:-1] + b"\xff", "not UTF-8"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_a_hostile_file_is_refused_before_memory_is_taken(tmp_path: Path, case: str) -> None:
    content, message = HOSTILE[case]
    path = tmp_path / "hostile.params"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as caught:
            read_mxnet_params(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "hostile.params" in str(caught.value)
    assert peak < 2**20


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.params cannot be read"):
        read_mxnet_params(tmp_path / "none.params")
    with pytest.raises(CheckpointError, match="expected a file, got a folder"):
        read_mxnet_params(tmp_path)


def test_writer_of_this_file_agrees_with_mxnets(folder: Path) -> None:
    """Otherwise the hostile files above would be hostile in more ways than they say."""
    params = read_mxnet_params(folder / "tiny.params")
    for layout, name in (("v2", "tiny"), ("v1", "tiny_v1"), ("legacy", "tiny_legacy")):
        packed = list_file([record(array, layout=layout) for array in params.values()], list(params))
        assert packed == (folder / f"{name}.params").read_bytes()
    assert math.prod(params["arg:conv1a_weight"].shape) == 81
