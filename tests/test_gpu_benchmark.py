"""`python -m benchmarks gpu`: the dry run of all parts on the CPU, time limits, targets, and the table in the docs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks import __main__ as command
from benchmarks.gpu import page, plan, profile
from benchmarks.gpu import tests as gpu_tests
from benchmarks.gpu.chips import stated_tflops
from benchmarks.gpu.given import Case, Given, missing
from benchmarks.gpu.limits import run_limited
from benchmarks.gpu.plan import PARTS, Part
from benchmarks.gpu.record import Found, PartFound
from torch.utils.data import DataLoader

from subcam.errors import BadInputError

ROOT = Path(__file__).resolve().parents[1]
GPU = {"kind": "cuda", "name": "NVIDIA H100 80GB HBM3"}


@pytest.mark.slow
def test_the_dry_run_carries_out_every_part(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling aside: to trace functions whose shapes and types are checked takes many times what they take."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    kept = tmp_path / "gpu.json"
    words = ["gpu", "--device", "cpu", "--tiny", "--json", str(kept), "--scratch", str(tmp_path / "scratch")]
    assert command.main(words) == 0
    printed = capfd.readouterr().out
    assert "missing: a CUDA device, by choice (--device cpu); costs every target" in printed
    found = Found.read(kept)
    states = {part.name: (part.state, part.why) for part in found.parts}
    assert states.pop("tests") == ("left out", "there is no GPU: these tests would all be skipped")
    assert states == {part.name: ("done", "") for part in PARTS if part.name != "tests"}
    rows = {row["case"]: row for part in found.parts for row in part.rows}
    step = rows["DeepLab-v2 on tiny, crop 48, batch 2, eager, channels last"]
    assert step["share_of_peak"] == pytest.approx(step["tflops"] / rows["peak"]["tflops"])
    assert "failed" not in rows["tiny, crop 48, batch 2, compiled, channels last"]
    for row in rows.values():
        if profiled := row.get("profile"):
            assert profiled["device"] + profiled["input"] + profiled["host"] == pytest.approx(1, abs=0.02)
            assert profiled["operators"]
    assert rows["tiny, crop 48, batch 2, through the loop, from JPEG files"]["profile"]["input"] > 0
    assert rows["tiny, 32 x 24, 2 of 20 classes, K = 10, 32-true, batch 2"]["difference"] < 1e-4
    assert rows["24 x 18, 2 classes"]["difference"] < 1e-4
    assert rows["killed and resumed"]["kills"] == 1
    assert rows["killed and resumed"]["largest_difference"] == 0
    assert rows["two processes on one device, gloo"]["largest_difference"] < 2e-4
    stages = {row["stage"].partition("-")[2] for row in rows.values() if "stage" in row}
    assert {"classify", "discover", "prototypes", "cam", "crf", "affinity", "walk", "masks", "segment"} <= stages
    assert {score["what"] for score in rows["small"]["scores"]} >= {
        "response maps: round 1",
        "pseudo masks of round 1: walk-crf",
        "segmentation network: plain",
    }
    assert all(target.met is None for target in found.targets)

    sheet = tmp_path / "page.md"
    sheet.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", "utf-8")
    assert command.main(["gpu", "--load", str(kept), "--markdown", str(sheet)]) == 0
    text = sheet.read_text("utf-8")
    assert "tiny: times say nothing" in text
    assert "old" not in text


def test_without_a_device_it_says_so_and_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["gpu", "--json", str(tmp_path / "found.json"), "--data", str(tmp_path)]) == 2
    printed = capsys.readouterr().out
    for words in ("a CUDA device (torch", "JPEGImages in", "(--weights FILE)", "a dry run"):
        assert words in " ".join(printed.split())
    assert not (tmp_path / "found.json").exists()


def test_what_is_missing_names_what_it_costs(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "large.jpg").write_bytes(b"\0")
    found = {one.what: one.costs for one in missing(Given(device="cpu", data=tmp_path))}
    assert found["the weights (--weights FILE)"] == ("small: without ImageNet's weights its scores say nothing",)
    assert not any("data folder" in what for what in found)
    with (tmp_path / "JPEGImages" / "large.jpg").open("r+b") as file:
        file.truncate(61 << 20)
    assert any("60 MiB at most (it has 61)" in one.what for one in missing(Given(device="cpu", data=tmp_path)))


# Time limits

SLEEPS = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"


def is_gone(process: int) -> bool:
    """Ended, if perhaps not yet waited for by whoever inherited it."""
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the processes in /proc")
def test_what_runs_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    ended = run_limited([sys.executable, "-c", SLEEPS], seconds=1.0, log=tmp_path / "log")
    assert ended.status is None
    assert 1 <= ended.seconds < 10
    until = time.monotonic() + 5
    while not is_gone(int(ended.said)) and time.monotonic() < until:
        time.sleep(0.01)
    assert is_gone(int(ended.said))


def test_what_ends_in_time_says_how(tmp_path: Path) -> None:
    ended = run_limited(
        [sys.executable, "-c", "print('so it is'); raise SystemExit(3)"], seconds=60, log=tmp_path / "l"
    )
    assert (ended.status, ended.said) == (3, "so it is")


def writing(file: Path, then: str) -> list[str]:
    script = f"import json, time; json.dump([{{'case': 'first'}}], open({str(file)!r}, 'w')); {then}"
    return [sys.executable, "-c", script]


@pytest.mark.parametrize(
    ("then", "state", "why"),
    [
        ("time.sleep(60)", "cut off", "cut off after 1 s"),
        ("raise SystemExit('so it broke')", "failed", "ended with 1: so it broke"),
        ("pass", "done", ""),
    ],
)
def test_rows_of_a_part_that_did_not_end_well_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, state: str, why: str
) -> None:
    monkeypatch.setattr(plan, "child_words", lambda part, given, file: writing(file, then))
    given = Given(device="cpu", scratch=tmp_path)
    seconds = 1.0 if state == "cut off" else 60.0
    found = plan.apart(Part(name="part", module="none", most=60), given, limit=seconds)
    assert (found.state, found.why, found.rows) == (state, why, ({"case": "first"},))


def test_the_process_of_a_part_writes_after_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Case]] = []
    file = tmp_path / "rows.json"

    def rows_of(part: Part, given: Given) -> Iterator[Case]:
        given.note({"case": "noted"})
        seen.append(json.loads(file.read_text("utf-8")))
        yield {"case": "yielded"}
        seen.append(json.loads(file.read_text("utf-8")))

    monkeypatch.setattr(plan, "rows_of", rows_of)
    plan.in_child(PARTS[0], Given(device="cpu", scratch=tmp_path), file)
    assert seen == [[{"case": "noted"}], [{"case": "noted"}, {"case": "yielded"}]]


def test_a_part_that_fails_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows_of(part: Part, given: Given) -> Iterator[Case]:
        yield {"case": part.name}
        if part.name == "maps":
            raise RuntimeError("out of memory")

    monkeypatch.setattr(plan, "rows_of", rows_of)
    kept = tmp_path / "gpu.json"
    assert command.main(["gpu", "--device", "cpu", "--tiny", "--json", str(kept), "--parts", "crf", "maps"]) == 1
    first, second = Found.read(kept).parts
    assert (first.name, first.state, first.rows) == ("maps", "failed", ({"case": "maps"},))
    assert first.why.startswith("RuntimeError: out of memory (test_gpu_benchmark.py, line")
    assert (second.name, second.state) == ("crf", "done")


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        ("small", 100, "the data folder is missing"),
        ("maps", 5, "5 s of the budget were left"),
        ("tests", 100, "no GPU"),
    ],
)
def test_why_a_part_is_left_out(tmp_path: Path, name: str, seconds: float, words: str) -> None:
    (part,) = (part for part in PARTS if part.name == name)
    found: list[PartFound] = []
    plan.carry_out(part, Given(device="cpu", scratch=tmp_path), seconds=seconds, write=found.append)
    assert found[0].state == "left out"
    assert words in found[0].why


# Targets and the page

PROFILE = {"seconds": 1.0, "device": 0.4, "input": 0.1, "host": 0.5, "operators": [{"name": "gemm", "share": 1.0}]}


def found_on_gpu(*, share: float = 0.5, busy: float = 0.9) -> Found:
    step = {"way": "step alone", "profile": PROFILE}
    return Found(
        device=GPU,
        tiny=False,
        budget=480,
        parts=(
            PartFound(
                name="training",
                state="done",
                rows=(
                    {"case": "a", "network": "resnet38, crop 448, batch 16", "share_of_peak": 0.2, **step},
                    {"case": "b", "network": "resnet38, crop 448, batch 16", "share_of_peak": share, **step},
                ),
            ),
            PartFound(
                name="small", state="cut off", why="cut off after 260 s", rows=({"case": "small", "seconds": 300.0},)
            ),
            PartFound(
                name="reference",
                state="done",
                rows=(
                    {"case": "x", "stage": "cam", "device_busy": busy},
                    {"case": "y", "stage": "walk", "device_busy": 0.95},
                ),
            ),
        ),
    )


def test_targets_are_met_or_missed_in_the_open() -> None:
    targets = {target.what: target for target in found_on_gpu(share=0.3, busy=0.2).targets}
    training, deeplab, _, _, small, stages = targets.values()
    assert (training.measured, training.met, training.profile) == (0.3, False, PROFILE)  # of the best way
    assert (deeplab.measured, deeplab.met) == (None, None)
    assert (small.measured, small.met) == (300.0, False)
    assert (stages.measured, stages.met, stages.profile) == (0.2, False, {"bound by the host": {"cam": 0.2}})
    met = [target.met for target in found_on_gpu().targets]
    assert met == [True, None, None, None, False, True]
    assert all(target.met is None for target in replace(found_on_gpu(), tiny=True).targets)


def test_what_was_found_survives_a_file_and_goes_on_in_it(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    found_on_gpu().write(path)
    assert Found.read(path) == found_on_gpu()
    assert json.loads(path.read_text("utf-8"))["targets"][0]["met"] is True
    text = page.to_markdown(Found.read(path))
    assert "NVIDIA H100 80GB HBM3" in text
    assert "| small | cut off: cut off after 260 s |" in text
    assert "| >= 0.45 | 0.5 | met |" in text
    assert command.main(["gpu", "--device", "cpu", "--tiny", "--json", str(path)]) == 2
    assert Found.read(path) == found_on_gpu()
    path.write_text("[]", "utf-8")
    with pytest.raises(BadInputError, match="holds nothing that was found on a GPU"):
        Found.read(path)


def test_the_docs_hold_the_table_of_the_last_gpu() -> None:
    """`python -m benchmarks gpu --load benchmarks/gpu.json --markdown docs/scale.md` writes it once there is a file."""
    path = ROOT / "benchmarks" / "gpu.json"
    last = Found.read(path) if path.is_file() else None
    assert page.to_markdown(last) in (ROOT / "docs" / "scale.md").read_text("utf-8")
    assert last is None or (last.device["kind"] == "cuda" and not last.tiny)


# What the parts are made of


def test_a_chip_is_known_by_its_name() -> None:
    assert stated_tflops("NVIDIA H100 80GB HBM3") == stated_tflops("NVIDIA H200") == 989
    assert stated_tflops("NVIDIA H100 PCIe") == 756
    assert stated_tflops("NVIDIA L40S") == 362
    assert stated_tflops("NVIDIA L4") == 121
    assert stated_tflops("a chip of next year") is None


class Slow(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(0.02)
        return torch.ones(4)


def test_a_loop_that_waits_for_its_input_is_seen() -> None:
    profiler = profile.Profiler(Given(device="cpu"))
    profiler.start()
    for batch in DataLoader(Slow()):
        batch.sum()
    time.sleep(0.05)
    profiler.stop()
    found = profiler.result()
    assert found.input > 0.4
    assert found.host > 0.1
    assert found.device < 0.3


def test_the_tests_of_a_gpu_are_those_with_the_mark(tmp_path: Path) -> None:
    words = gpu_tests.command(tmp_path / "report.xml")
    assert {"tests/test_on_gpu.py", "tests/stages/test_classify.py", "tests/crf/test_dense_crf_torch.py"} <= {*words}
    assert "tests/test_site.py" not in words


def test_a_report_of_the_tests_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a" name="one"/>'
        '<testcase classname="a" name="two"><failure message="differs">...</failure></testcase>'
        '<testcase classname="a" name="three"><skipped message="no"/></testcase></testsuite></testsuites>'
    )
    row = gpu_tests.read_report(report)
    assert (row["passed"], row["failed"], row["skipped"]) == (1, 1, 1)
    assert row["failures"] == [{"test": "a::two", "message": "differs"}]
