import ast
import inspect
import os
import re
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import subcam
from subcam.hub.model_card import CardSource, model_card
from subcam.networks.model_folder import CLASSIFICATION, SEGMENTATION

SOURCE = Path(subcam.__file__).parent
FACES = sorted(".".join(stub.parent.relative_to(SOURCE.parent).parts) for stub in SOURCE.rglob("__init__.pyi"))
"""Packages that have a list of public names."""


def homes(package: str) -> dict[str, tuple[str, str]]:
    """Module and name there of each name in a package's stub, read in another way than the package does."""
    stub = (SOURCE.parent / Path(*package.split(".")) / "__init__.pyi").read_text("utf-8")
    return {
        alias.asname: (node.module, alias.name)
        for node in ast.parse(stub).body[1:]
        for alias in node.names  # type: ignore[attr-defined]
    }


def fresh(code: str) -> str:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def forked(code: str) -> str:
    """What a process prints that has imported nothing of subcam, but all that subcam imports: that takes seconds."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.dup2(writing, 1)
        for name in [name for name in sys.modules if name.partition(".")[0] == "subcam"]:
            del sys.modules[name]
        sys.stdout = os.fdopen(1, "w", closefd=False)
        try:
            exec(code, {})
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as printed:
        text = printed.read()
    os.waitpid(process, 0)
    return text.strip()


def test_what_people_need_is_public():
    needed = {"run", "RunSettings", "RECIPES", "predict", "evaluate", "read_folder", "read_voc", "read_coco", "hub"}
    assert needed <= set(subcam.__all__)
    rooms = "affinity cam clustering crf data data.readers export hub metrics predict prototypes refine"
    assert ["subcam", *(f"subcam.{room}" for room in rooms.split())] == FACES


@pytest.mark.parametrize("name", subcam.__all__)
def test_everything_public_is_there_and_documented(name):
    value = getattr(subcam, name)
    if name in ("__version__", "RECIPES"):
        return
    home = getattr(value, "__module__", value.__class__.__name__.endswith("Face") and value.__name__)
    assert value.__doc__
    assert home.startswith("subcam.")


@pytest.mark.parametrize("package", FACES)
def test_the_stub_is_the_list_of_what_a_package_offers(package):
    """Type checkers read the stub, and at run time the package does: the same names, the same things behind them."""
    face, listed = import_module(package), homes(package)
    assert face.__all__ == sorted(listed) == dir(face)
    for name, (module, original) in listed.items():
        value = getattr(face, name)
        if module == package or (package == "subcam" and name in ("predict", "refine")):
            assert value is import_module(f"{package}.{name}")
        else:
            assert value is getattr(import_module(module), original), name
            assert not isinstance(value, type(sys)), name
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        face.nothing  # noqa: B018
    assert (SOURCE / "py.typed").is_file()


def functions(package):
    """The public functions of a package, and the methods of its public classes, by their names."""
    for name in (face := import_module(package)).__all__:
        value = getattr(face, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            own = [key for key in vars(value) if not key.startswith("_")]
            yield from ((f"{name}.{key}", getattr(value, key)) for key in own if callable(getattr(value, key)))


@pytest.mark.parametrize("package", FACES)
def test_every_path_may_be_a_text(package):
    """Its annotation says so, which the type checker holds the code to, or `takes_arrays` makes a path of it."""
    for name, function in functions(package):
        plain = inspect.unwrap(function)
        kinds = [
            str(kind) for key, kind in typing.get_type_hints(plain).items() if key != "return" and "Path" in str(kind)
        ]
        refuses = [kind for kind in kinds if "str" not in kind]
        assert not refuses or "@takes_arrays" in inspect.getsource(plain), (name, refuses)


def test_texts_are_paths(tmp_path):
    assert subcam.metrics.read_confidences(str(tmp_path)) == ()
    for network in (subcam.SegmentationNetwork, subcam.AffinityNetwork):
        with pytest.raises(subcam.CheckpointError, match="holds no saved"):
            network.load(str(tmp_path))


def test_importing_the_package_imports_none_but_itself_and_the_standard_library():
    code = "import sys; before = set(sys.modules); import subcam; print(*set(sys.modules) - before)"
    tops = {name.partition(".")[0] for name in fresh(code).split()}
    assert tops - sys.stdlib_module_names - {"subcam"} == set()
    rooms = ", ".join(FACES)
    code = f"import sys; before = set(sys.modules); import {rooms}; print(*set(sys.modules) - before)"
    tops = {name.partition(".")[0] for name in fresh(code).split()}
    assert tops - sys.stdlib_module_names - {"subcam"} == set()


def test_importing_the_package_takes_less_than_a_second():
    """Processor time, which other work on the machine does not change much; it is some hundredths of a second."""
    code = "import time; start = time.process_time(); import subcam; print(time.process_time() - start)"
    assert min(float(fresh(code)) for _ in range(3)) < 1


def test_a_name_is_imported_when_it_is_asked_for():
    code = "import sys, subcam; subcam.scores; print(*(name in sys.modules for name in ('numpy', 'torch', 'timm')))"
    assert fresh(code) == "True False False"
    code = "import subcam; print(subcam.hub.__name__, subcam.scores.__module__)"
    assert fresh(code) == "subcam.hub subcam.metrics.scores"


@pytest.mark.parametrize("first", ["", "import subcam.metrics.scores; ", "subcam.scores; "])
def test_a_function_stays_in_the_place_of_the_file_of_its_name(first):
    code = f"import subcam; {first}from subcam.metrics import scores; import subcam.metrics.scores; "
    assert fresh(f"{code}print(type(scores).__name__, subcam.metrics.scores is scores)") == "function True"


def test_settings_import_no_library_that_only_a_stage_needs():
    """What every command waits for, a wrong flag and `--help` too."""
    heavy = ("torchvision", "lightning_fabric", "sklearn", "timm", "segmentation_models_pytorch", "matplotlib", "onnx")
    code = f"import sys, subcam.recipes, subcam.commands.run; print([name for name in {heavy} if name in sys.modules])"
    assert fresh(code) == "[]"


@pytest.mark.parametrize("first", ["", "subcam.predict.tiles"])
def test_predict_can_be_called_whatever_was_imported_before(first):
    code = (
        f"import subcam\n{first or 'pass'}\n"
        "try:\n    subcam.predict('no model', 'no images', out='nowhere')\n"
        "except subcam.SubcamError as error:\n    print(error)"
    )
    if first == "subcam.predict.tiles":
        code = code.replace(first, "import subcam.predict.tiles")
    assert forked(code).startswith("no images: ")


@pytest.mark.parametrize("kind", [SEGMENTATION.name, CLASSIFICATION.name])
def test_model_cards_use_public_names_only(kind):
    config = {"format": kind, "network": {"name": "tiny"}, "class_names": ["cat"], "architecture": "deeplabv2"}
    card = model_card(CardSource(name="mine", config=config, parameters=1))
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    used = re.findall(r"\bsubcam\.(\w+)(?:\.(\w+))?", code)
    assert used
    assert "from subcam" not in code
    for name, inner in used:
        assert name in subcam.__all__
        owner = getattr(subcam, name)
        assert not inner or inner in getattr(owner, "__all__", dir(owner))


def test_evaluate_scores_folders_by_name(tmp_path):
    for folder, values in (("truth", [[0, 1], [1, 2]]), ("mine", [[0, 1], [2, 2]])):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(np.array(values, np.uint8)).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "mine" / "b.png").unlink()
    folders = {"predictions": tmp_path / "mine", "truth": str(tmp_path / "truth")}
    result = subcam.evaluate(**folders, names=["a"], classes=["cat", "dog"])
    assert result.class_names == ("background", "cat", "dog")
    assert result.scores.iou.tolist() == [1.0, 0.5, 0.5]
    assert subcam.evaluate(**folders, missing="skip", ignore=2, unlabelled="background").images == 1
    with pytest.raises(subcam.BadInputError, match="got none for 1: b"):
        subcam.evaluate(**folders)
    reordered = subcam.evaluate(**folders, names=["a"], classes=["dog", "cat"], truth_classes=["cat", "dog"])
    assert reordered.scores.miou == pytest.approx(4 / 9)
