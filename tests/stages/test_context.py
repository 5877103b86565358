"""A stage's key comes from its parameters: each change of what it is given changes the key; it reads nothing else."""

import ast
import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Union

import pytest
from tests.stages.all_stages import MODULES, STAGES

from subcam.comparisons.settings import ErasingSettings
from subcam.data.check import CheckedImages
from subcam.data.dataset import Dataset
from subcam.data.records import IGNORE_INDEX, ImageSet
from subcam.export.mask_folder import MaskFolder
from subcam.methods.protocol import ChosenMethod, Method, MethodTraining
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.runtime.devices import Device
from subcam.runtime.progress import say
from subcam.runtime.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT, RunFolder, Stage
from subcam.stages import classify, context
from subcam.stages.context import Context, compute, inputs_of, key_of, reasons, version_of
from subcam.stages.given.corrections import Corrections
from subcam.stages.refine import affinity

MADE_FASTER_BY = {"threads", "workers", "compile"}
"""Settings of the machine that a stage may read: they decide how fast it is, and are no part of the key."""


def title(function: Callable[..., None]) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def made(kind: Any, device: Device) -> Any:
    """A value of the type that a parameter is annotated with."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, UnionType):
        return made(next(argument for argument in arguments if argument is not type(None)), device)
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        return (made(arguments[0], device),)
    if kind is Stage:
        return Stage(name="earlier", key="one", path=Path("one"))
    if kind is CheckedImages:
        image_set = ImageSet(class_names=("cat",), records=(), mask_values=(0, 1, *[IGNORE_INDEX] * 254))
        return CheckedImages(image_set=image_set, sizes=(), digest="one")
    if kind is Device:
        return device
    if kind is ChosenMethod:
        method = Method(name="a", losses=lambda *_: {}, options=ErasingSettings())
        return ChosenMethod(method=method, reference="m:A", source="one")
    if kind is MethodTraining:
        return MethodTraining(chosen=made(ChosenMethod, device))
    if kind is Corrections:
        return Corrections(masks=MaskFolder(root=Path("corrected"), files={}), class_names=("cat",))
    if kind is SegmentationConfig:
        return SegmentationConfig(network=NetworkSettings(), class_names=("cat",))
    return {int: 3, str: "plain"}[kind] if kind in (int, str) else kind()


def variations(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one thing in it changed, and what that is. Settings are not checked: only their key is wanted."""
    if isinstance(value, Stage):
        yield "key", replace(value, key="two")
    elif isinstance(value, CheckedImages):
        yield "digest", replace(value, digest="two")
    elif isinstance(value, Device):
        yield "precision", replace(value, precision="bf16-mixed")
    elif isinstance(value, MethodTraining):
        for what, changed in variations(value.chosen):
            yield what, MethodTraining(chosen=changed)
    elif isinstance(value, ChosenMethod):
        yield "source", replace(value, source="two")
        for name, other in (("name", "b"), ("version", "2"), ("options", ErasingSettings(threshold=0.1))):
            yield name, replace(value, method=replace(value.method, **{name: other}))
    elif isinstance(value, Corrections):
        yield "class_names", replace(value, class_names=("dog",))
        yield "colours", replace(value, masks=replace(value.masks, colours=(((9, 9, 9), 1),)))
        yield "files", replace(value, masks=replace(value.masks, files={"a": Path(__file__)}))
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            for what, changed in variations(getattr(value, entry.name)):
                other = copy.copy(value)
                object.__setattr__(other, entry.name, changed)
                yield f"{entry.name}.{what}", other
    elif isinstance(value, tuple):
        yield "shorter" if value else "longer", value[:-1] if value else ("more",)
    elif isinstance(value, dict):
        yield "more", {**value, "more": 1}
    elif isinstance(value, bool):
        yield "not", not value
    elif isinstance(value, int | float):
        yield "more", value + 1
    elif isinstance(value, str):
        yield "other", f"{value} other"
    elif value is None:
        yield "something", 1
    else:
        raise AssertionError(f"nothing says how to change a {type(value)}")


@pytest.mark.parametrize("work", STAGES, ids=title)
def test_each_thing_that_a_stage_is_given_changes_its_key(work: Callable[..., None], device: Device) -> None:
    hints = typing.get_type_hints(inspect.unwrap(work))
    given = {name: made(hints[name], device) for name in list(inspect.signature(work).parameters)[1:]}
    base = key_in(work, given)
    assert (
        key_in(
            work,
            copy.deepcopy({name: value for name, value in given.items() if name != "device"})
            | ({"device": device} if "device" in given else {}),
        )
        == base
    )
    keys = {base}
    for name, value in given.items():
        changes = list(variations(value))
        assert changes, f"{name} cannot be changed"
        for what, changed in changes:
            key = key_in(work, given | {name: changed})
            assert key not in keys, f"{name}.{what} is no part of the key"
            keys.add(key)


@pytest.mark.parametrize("work", STAGES, ids=title)
def test_what_may_be_left_out_is_part_of_the_key(work: Callable[..., None], device: Device) -> None:
    signature = inspect.signature(work)
    hints = typing.get_type_hints(inspect.unwrap(work))
    required = {
        name: made(hints[name], device)
        for name, parameter in list(signature.parameters.items())[1:]
        if parameter.default is inspect.Parameter.empty
    }
    optional = [name for name in list(signature.parameters)[1:] if name not in required]
    for name in optional:
        assert key_in(work, required | {name: made(hints[name], device)}) != key_in(work, required)
        assert key_in(work, required | {name: signature.parameters[name].default}) == key_in(work, required)


def key_in(work: Callable[..., None], given: dict[str, Any]) -> str:
    return RunFolder(path=Path("run")).stage("a", version=version_of(work), inputs=inputs_of(work, given)).key


def test_every_stage_is_looked_at() -> None:
    assert len(MODULES) == 16
    assert len(STAGES) == 22
    assert all(isinstance(module.VERSION, int) for module in MODULES)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_stage_reads_nothing_but_its_parameters(module: ModuleType) -> None:
    """No settings of the whole run, no environment, no context; of the machine only what makes it faster."""
    tree = ast.parse(Path(inspect.getfile(module)).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert source not in ("os", "sys", "subcam.settings", "subcam.pipeline", "subcam.stages.context"), source
            other = source.startswith("subcam.stages") and not source.startswith("subcam.stages.settings.")
            assert not other, f"{module.__name__} knows the stage {source}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("machine"):
            assert node.attr in MADE_FASTER_BY, f"line {node.lineno} reads machine.{node.attr}"
        if isinstance(node, ast.Global):
            raise AssertionError(f"line {node.lineno} keeps something between two calls")
    for work in (function for function in STAGES if function.__module__ == module.__name__):
        first, *others = inspect.signature(work).parameters.values()
        assert (first.name, {p.kind for p in others}) == ("stage", {inspect.Parameter.KEYWORD_ONLY})


def test_how_fast_a_machine_is_changes_no_key(device: Device) -> None:
    faster = replace(device, machine=replace(device.machine, threads=7, workers=3, decoded_cache="elsewhere"))
    assert key_of(faster) == key_of(device) == "32-true"


def test_a_file_that_a_setting_names_counts_by_its_content(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one.pth", "two.pth", "three.pth"))
    for path, content in ((one, b"a"), (two, b"a"), (three, b"b")):
        path.write_bytes(content)

    def key(path: Path | str) -> Any:
        return key_of(classify.ClassifySettings(round0_checkpoint=str(path)))

    assert key(one) == key(two) != key(three)
    assert key("") != key(one)
    assert key_of(affinity.AffinitySettings(checkpoint=str(one))) != key_of(
        affinity.AffinitySettings(checkpoint=str(three))
    )
    weights = [NetworkSettings(weights=str(path)) for path in (one, two, three)]
    assert key_of(weights[0]) == key_of(weights[1]) != key_of(weights[2])


def test_weights_in_a_folder_count_by_their_file(tmp_path: Path) -> None:
    keys = []
    for content in (b"a", b"b"):
        folder = tmp_path / content.decode()
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(content)
        keys.append(key_of(NetworkSettings(weights=str(folder))))
    (tmp_path / "b" / "model.safetensors").write_bytes(b"a")
    assert keys[0] != keys[1]
    assert key_of(NetworkSettings(weights=str(tmp_path / "b"))) == keys[0]


def test_what_has_no_key_is_refused() -> None:
    with pytest.raises(TypeError, match="a stage cannot depend on a PosixPath: nothing says what of it decides"):
        key_of(Path("somewhere"))
    with pytest.raises(TypeError, match="cannot depend on a set"):
        key_of({1, 2})


@pytest.fixture
def here(tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A context whose stages are `work` below."""
    monkeypatch.setattr(context, "version_of", lambda _: 1)
    return Context(
        folder=RunFolder(path=tmp_path),
        dataset=Dataset(train=made(CheckedImages, device), scored={}),
        training=device,
        inference=device,
        seed=0,
    )


CALLS: list[tuple[int, str]] = []


def work(stage: Stage, *, number: int, text: str = "a") -> None:
    CALLS.append((number, text))
    stage.finish({"number": number})


def test_checkpoints_of_who_was_killed_as_a_stage_ended_are_dropped(here: Context) -> None:
    stage = here.run("round0-classify", work, number=1)
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        (stage.path / name).touch()
    here.run("round0-classify", work, number=1)
    assert [path.name for path in stage.path.iterdir()] == [stage.record_path.name]


def test_a_stage_is_done_once_and_anew_when_something_changes(
    here: Context, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    CALLS.clear()
    first = here.run("round0-cam", work, number=1)
    assert here.run("round0-cam", work, number=1) == first
    assert CALLS == [(1, "a")]
    assert first.record["inputs"] == {"number": 1, "text": "a"}
    assert not capsys.readouterr().out

    second = here.run("round0-cam", work, number=2, text="b")
    assert second.key != first.key
    assert CALLS == [(1, "a"), (2, "b")]
    assert (
        f"round0-cam: computed anew, because number, text changed ({first.path.name} stays)" in capsys.readouterr().out
    )

    monkeypatch.setattr(context, "version_of", lambda _: 2)
    third = here.run("round0-cam", work, number=2, text="b")
    assert third.key != second.key
    assert len(CALLS) == 3
    assert "because its computation changed (version 1 -> 2)" in capsys.readouterr().out.replace("\n", " ")


def test_a_stage_that_was_cut_off_is_resumed(here: Context, capsys: pytest.CaptureFixture[str]) -> None:
    CALLS.clear()
    stage = here.folder.stage("walk", version=1, inputs={"number": 4, "text": "a"})
    stage.path.mkdir(parents=True)
    assert here.run("walk", work, number=4).done
    assert CALLS == [(4, "a")]
    assert "walk: resumed" in capsys.readouterr().out


def test_a_dry_run_only_looks(here: Context) -> None:
    CALLS.clear()
    seen: list[str] = []
    looking = replace(here, carry_out=lambda folder, stage, do: seen.append(stage.name))
    assert not looking.run("walk", work, number=9).done
    assert (CALLS, seen) == ([], ["walk"])


def test_arguments_have_names(here: Context) -> None:
    with pytest.raises(TypeError, match="walk: expected the arguments of a stage by name, got 1 without one"):
        here.run("walk", work, 3)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"missing a required.* argument: 'number'"):
        here.run("walk", work, numer=3)  # type: ignore[call-arg]


def test_reasons_are_few(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    settings = dict.fromkeys("abcdef", 1)
    one = folder.stage("cam", inputs={"settings": settings, "maps": "x"})
    two = folder.stage("cam", inputs={"settings": dict.fromkeys("abcdef", 2), "maps": "x"})
    assert reasons(one, two) == ["because settings.a, settings.b, settings.c, settings.d and 2 more changed"]
    fewer = folder.stage("cam", version=3, inputs={"settings": settings})
    assert reasons(one, fewer) == ["because its computation changed (version 1 -> 3)", "because maps changed"]
    assert reasons(replace(one, inputs={}), two) == ["because the existing one is from an earlier revision"]


def test_the_newest_of_the_same_name_is_the_earlier_one(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    present = folder.stage("cam", inputs={"a": 0})
    assert folder.earlier(present) is None
    for number, day in ((1, "2026-01-03"), (2, "2026-01-05"), (3, "2026-01-04")):
        stage = folder.stage("cam", inputs={"a": number})
        stage.finish()
        text = stage.record_path.read_text("utf-8")
        stage.record_path.write_text(text.replace(stage.record["finished"], day), "utf-8")
    folder.stage("cam-other", inputs={"a": 9}).finish()
    present.finish()
    earlier = folder.earlier(present)
    assert earlier is not None
    assert earlier.inputs == {"a": 2}


def test_what_an_earlier_revision_wrote_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(path=tmp_path)
    old = tmp_path / "stages" / "cam-0123456789"
    old.mkdir(parents=True)
    ended = '"finished": "2026-11-23T08:00:00+00:00", "seconds": 1.5, "peak_memory_mib": 300.0'
    record = f'{{"stage": "cam", "key": "0123456789ab", "settings": {{}}, "inputs": ["x"], {ended}}}'
    (old / "stage.json").write_text(record, "utf-8")
    compute(folder, folder.stage("cam", inputs={"a": 0}), lambda: None)
    said = " ".join(capsys.readouterr().out.split())
    assert said == "cam: computed anew, because the existing one is from an earlier revision (cam-0123456789 stays)"


def test_a_plan_names_each_stage_once_and_says_and_does_nothing(
    tmp_path: Path, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Context(
        folder=RunFolder(path=tmp_path),
        dataset=Dataset(train=made(CheckedImages, device), scored={}),
        training=device,
        inference=device,
        seed=0,
    )
    work = next(work for work in STAGES if work.__name__ == "run_on_features")
    given = dict.fromkeys(list(inspect.signature(work).parameters)[1:])

    def go(found: Context) -> None:
        for name in ("a", "b", "a"):
            found.run(name, work, **given)
        say("done")

    planned = own.planned(go)
    assert [(one.stage.name, one.work, one.given) for one in planned] == [("a", work, given), ("b", work, given)]
    assert not any(tmp_path.iterdir())
    assert capsys.readouterr().out == ""
