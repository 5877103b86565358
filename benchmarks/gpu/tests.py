"""`pytest -m gpu`: every stage's heavy step on the device against the CPU. Counts, and the names of what failed."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.given import Case, Given

ROOT = Path(__file__).resolve().parents[2]
OUTCOMES = ("failure", "error", "skipped")


def cases(given: Given) -> Iterator[Case]:
    """One row. The tests run in a process of their own, which ends with the part's."""
    report = given.scratch.resolve() / "tests.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command(report), cwd=ROOT, check=False)
    yield read_report(report)


def command(report: Path) -> list[str]:
    """What runs them: one process, as they share a device; of files with such tests, as others import more packages."""
    words = ["-m", "pytest", "-m", "gpu", "-n", "0", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    return [sys.executable, *words, "--continue-on-collection-errors", *marked_files()]


def marked_files() -> list[str]:
    """The files in which a test has the mark, or all have."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if "pytest.mark.gpu" in path.read_text("utf-8")]


def read_report(report: Path) -> Case:
    """The counts of a JUnit report."""
    found: Counter[str] = Counter()
    failed = []
    for test in ElementTree.parse(report).iter("testcase"):
        outcome = next((child.tag for child in test if child.tag in OUTCOMES), "passed")
        found[outcome] += 1
        if outcome in ("failure", "error"):
            message = next(child.get("message", "") for child in test if child.tag == outcome)
            failed.append({"test": f"{test.get('classname')}::{test.get('name')}", "message": message[:300]})
    return {
        "case": "pytest -m gpu",
        "passed": found["passed"],
        "failed": len(failed),
        "skipped": found["skipped"],
        "failures": failed,
    }
