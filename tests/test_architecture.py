"""The rules that a reader relies on: who may import whom, how large a file is, and that no data is run as code."""

import ast
import graphlib
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "subcam"
FILES = sorted(SOURCE.rglob("*.py"))
FLOORS = {
    "_lazy": 0,
    "_version": 0,
    "errors": 0,
    "checks": 1,
    "runtime": 2,
    "crf": 3,
    "data": 3,
    "run_record": 3,
    "audit": 4,
    "download": 4,
    "prototypes": 4,
    "networks": 5,
    "affinity": 6,
    "cam": 6,
    "clustering": 6,
    "training": 6,
    "comparisons": 7,
    "metrics": 7,
    "refine": 7,
    "export": 8,
    "predict": 8,
    "methods": 8,
    "stages": 9,
    "settings": 10,
    "preflight": 11,
    "recipes": 11,
    "results": 11,
    "report": 12,
    "run_files": 12,
    "steps": 12,
    "pipeline": 13,
    "ablation": 14,
    "estimator": 14,
    "hub": 15,
    "commands": 16,
    "cli": 17,
    "__init__": 18,
}
"""Where each folder stands, with all that is in it, and each file of the root. An import goes down or stays inside."""

MOST_LINES = 400
MOST_FILES = 14
MOST_FILES_IN_ROOT = 12
OPTIONAL = {"huggingface_hub", "pillow_heif", "pytorch_grad_cam"}
"""Packages of an extra: imported where they are used, never by the import of a file."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, wherever in it, for type checking too; `from a import b` gives `a.b`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who knows whom"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str:
    """The module that an imported name is, or is in."""
    while name not in MODULES:
        name, dot, _ = name.rpartition(".")
        assert dot, "no module of subcam"
    return name


@cache
def own_imports(path: Path) -> frozenset[str]:
    """Modules of subcam that a file imports, or a package by the stub that lists its public names."""
    stub = path.with_suffix(".pyi")
    names = [*imports(path), *(imports(stub) if stub.is_file() else ())]
    return frozenset(module_of(name) for name in names if name.partition(".")[0] == "subcam")


def room(path: Path) -> str:
    """What has a floor: the folder of the root that a file is in, or the file itself if it is in the root."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def climbing(floors: dict[str, int]) -> list[str]:
    """Imports that do not go down."""
    return [
        f"{relative(path)} (floor {floors[room(path)]}) imports {name} (floor {floors[other]})"
        for path in FILES
        for name in sorted(own_imports(path))
        if (other := room(MODULES[name])) != room(path) and floors[other] >= floors[room(path)]
    ]


def test_packages_are_installed_by_the_command_of_the_documented_environment() -> None:
    """`uv venv` makes one without pip."""
    texts = [*FILES, *(path for path in ROOT.glob("docs/*.md") if path.name != "log.md"), *ROOT.glob("examples/*.py")]
    without_uv = re.compile(r"(?<!uv )pip install (?!uv)")
    assert [str(path) for path in texts if without_uv.search(path.read_text("utf-8"))] == []


def test_every_folder_has_a_floor() -> None:
    assert {room(path) for path in FILES} == set(FLOORS)


def test_imports_go_down() -> None:
    assert climbing(FLOORS) == []


@pytest.mark.parametrize(
    ("upper", "lower"), [("data", "runtime"), ("stages", "cam"), ("pipeline", "stages"), ("cli", "errors")]
)
def test_an_import_that_climbs_is_seen(upper: str, lower: str) -> None:
    """Turned around, the same table is broken: the test above does see imports."""
    assert climbing({**FLOORS, upper: FLOORS[lower], lower: FLOORS[upper]})


def test_no_import_runs_in_a_circle() -> None:
    """Not within a folder either."""
    graph = {name: own_imports(path) - {name} for name, path in MODULES.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_a_stage_knows_no_other_stage() -> None:
    """Stages meet in the pipeline and in files; what several use is below them, in their context or settings."""
    stages = {name: path for name, path in MODULES.items() if name.startswith("subcam.stages.")}
    assert len(stages) > 8
    shared = {"subcam.stages.context", *(name for name in stages if name.startswith("subcam.stages.settings"))}
    faults = [
        f"{relative(path)} imports {other}"
        for name, path in stages.items()
        for other in sorted((own_imports(path) & set(stages)) - shared)
        if name not in shared
    ]
    assert faults == []


def test_folders_are_small() -> None:
    counts = Counter(path.parent for path in FILES)
    most = {folder: MOST_FILES_IN_ROOT if folder == SOURCE else MOST_FILES for folder in counts}
    assert {relative(folder): count for folder, count in counts.items() if count > most[folder]} == {}


def test_files_are_small_and_named_after_what_they_hold() -> None:
    templates = [path for path in SOURCE.rglob("templates/*") if path.is_file()]
    faults = [str(path) for path in templates if len(path.read_text("utf-8").splitlines()) > MOST_LINES]
    for path in FILES:
        text = path.read_text("utf-8")
        lines = len(text.splitlines())
        if lines > MOST_LINES:
            faults.append(f"{relative(path)} has {lines} lines: it is two files")
        if path.stem in ("utils", "util", "helpers", "misc", "common"):
            faults.append(f"{relative(path)} says nothing by its name")
        if not ast.get_docstring(ast.parse(text)):
            faults.append(f"{relative(path)} does not say what it computes")
    assert faults == []


# Packages of others


def plain_name(requirement: str) -> str:
    """A package's name without its version, as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def test_every_package_that_is_imported_is_declared() -> None:
    """One that only comes along with another may be gone with that one's next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {plain_name(requirement) for requirement in project["dependencies"]}
    extras = {plain_name(r) for requirements in project["optional-dependencies"].values() for r in requirements}
    packages = packages_distributions()
    imported = {name.partition(".")[0] for path in FILES for name in imports(path)}
    others = imported - set(sys.stdlib_module_names) - {"subcam"}
    assert {"numpy", "torch"} <= others

    def is_in(names: set[str], module: str) -> bool:
        return any(plain_name(package) in names for package in packages.get(module, ()))

    assert {module for module in others if not is_in(declared | extras, module)} == set()
    assert {module for module in others if not is_in(declared, module)} == OPTIONAL


def test_no_file_needs_an_optional_package_to_be_imported() -> None:
    faults = []
    for path in FILES:
        for node in parsed(path).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            faults += [f"{relative(path)} imports {name}" for name in names if name.partition(".")[0] in OPTIONAL]
    assert faults == []


# What could run code


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What could run code from a file of data, or of weights."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        for name in names:
            if name.partition(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
                yield f"line {node.lineno} imports {name}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get("allow_pickle", "False") != "False":
                yield f"line {node.lineno} allows pickles"
            if called == "torch.load" and given.get("weights_only") != "True":
                yield f"line {node.lineno} calls torch.load without weights_only=True"
            if called in ("eval", "exec"):
                yield f"line {node.lineno} calls {called}"


def test_nothing_from_a_file_is_ever_run() -> None:
    faults = [f"{relative(path)}, {fault}" for path in FILES for fault in unsafe(parsed(path))]
    assert faults == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "numpy.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=trusted)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "eval(text)",
    ],
)
def test_what_is_unsafe_is_seen(line: str) -> None:
    assert len(list(unsafe(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line", ["numpy.load(path, allow_pickle=False)", "torch.load(path, weights_only=True)", "model.eval()"]
)
def test_what_is_safe_is_let_through(line: str) -> None:
    assert list(unsafe(ast.parse(line))) == []


# Images

THE_DOOR = "data/image_file.py"
"""The only file that opens images with Pillow."""

OPENS_IMAGES = ("PIL.Image.open", "matplotlib.pyplot.imread", "matplotlib.image.imread", "imageio", "cv2", "skimage.io")
OPENS_IMAGES += ("torchvision.io", "torchvision.datasets", "PIL.EpsImagePlugin")


def full_names(tree: ast.AST) -> Iterator[tuple[int, str, ast.AST]]:
    """Names of other packages as they are used in a file, spelled out: `Image.open` as `PIL.Image.open`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                known[alias.asname or first] = alias.name if alias.asname else first
            yield from ((node.lineno, alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            known.update({(alias.asname or alias.name): f"{node.module}.{alias.name}" for alias in node.names})
            yield from ((node.lineno, f"{node.module}.{alias.name}", node) for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            yield node.lineno, f"{known.get(first, first)}.{rest}", node


def images_opened(tree: ast.AST) -> list[str]:
    return [
        f"line {line} uses {name}"
        for line, name, _ in full_names(tree)
        if any(name == opens or name.startswith(f"{opens}.") for opens in OPENS_IMAGES)
    ]


def test_images_are_opened_at_one_door() -> None:
    """Pillow starts other programs for some kinds of files, so the kinds that it may try are written at the door."""
    faults = {relative(path): images_opened(parsed(path)) for path in FILES}
    (opened,) = faults.pop(THE_DOOR)
    assert opened.endswith("uses PIL.Image.open")
    assert {name: found for name, found in faults.items() if found} == {}
    text = (SOURCE / THE_DOOR).read_text("utf-8")
    assert "Image.open(io.BytesIO(data), formats=_PILLOWS_OWN if not _is_heif(data) else (_HEIF,))" in text


@pytest.mark.parametrize(
    "lines",
    [
        "from PIL import Image\nImage.open(path)",
        "import PIL.Image\nPIL.Image.open(path)",
        "from PIL.Image import open",
        "from PIL import Image as I\nopener = I.open",
        "import matplotlib.pyplot as plt\nplt.imread(path)",
        "import cv2",
    ],
)
def test_an_image_that_is_opened_elsewhere_is_seen(lines: str) -> None:
    assert images_opened(ast.parse(lines))


# Files

READS = {"open", "read_text", "read_bytes"}
OWN_FILES = {
    "_lazy.py": "the stubs of this package",
    "report/page/template.py": "templates of this package",
    "runtime/resources.py": "what the kernel says",
    "runtime/lock.py": "the lock, and what the kernel says",
    "runtime/files.py": "files that are written",
    "runtime/documents/regular_file.py": "the door",
    "download/transfer.py": "a part that is written",
    "predict/folder.py": "a table that grows",
    "report/page/page.py": "a drawing that was just written",
}
"""Files that open others by themselves, and why they may: none of these is named by a person or by data."""


def files_opened(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in READS or (isinstance(node.func, ast.Attribute) and node.func.attr in READS):
                yield called
            if called.endswith(("np.load", "ElementTree.parse", "json.load", "json.loads", "csv.DictReader")):
                yield called


KNOWN = {"Image.open", "Device.open", "Context.open", "os.open", "read_bytes", "read_text", "tarfile.open"}
KNOWN |= {"self.open", "file.open", "torch.export.load", "np.load", "urllib.request.build_opener().open"}
"""Calls that open no path, or one that was looked at before; numpy's for memory maps of files that stages wrote."""


def test_files_are_read_through_one_door() -> None:
    """`regular_file` never waits for a pipe, `json_text` and `xml_file` raise one kind of error whatever they meet."""
    faults = {relative(path): sorted(set(files_opened(parsed(path))) - KNOWN) for path in FILES}
    assert {name: found for name, found in faults.items() if found and name not in OWN_FILES} == {
        "runtime/documents/json_text.py": ["json.loads"]
    }


@pytest.mark.parametrize(
    "line", ["path.read_text()", "open(path)", "Path(a).open()", "json.loads(x)", "np.x.read_bytes()"]
)
def test_a_file_that_is_read_elsewhere_is_seen(line: str) -> None:
    assert list(files_opened(ast.parse(line)))


def test_the_tree_of_tests_is_that_of_the_source() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    folders.discard(Path("interop"))  # of other programs
    assert {folder for folder in folders if not (SOURCE / folder).is_dir()} == set()


def test_an_image_is_called_an_image() -> None:
    """In code, messages, documents and page alike; one word for one thing."""
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.*")]
    texts = [path for path in files if path.suffix in (".md", ".py", ".pyi", ".js", ".css", ".html", ".j2")]
    assert [str(path) for path in texts if re.search(r"\bpicture\b", path.read_text("utf-8"), re.IGNORECASE)] == []
