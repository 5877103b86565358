"""What an export of Label Studio holds, task by task: the image's address, the annotations that count, their names."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from subcam.data.files import looks_like_image, path_in
from subcam.data.readers.json_stream import json_entries
from subcam.errors import BadInputError

NAME_KEY = "subcam"
"""Under which tasks that subcam wrote say in `meta` what the image's record is called; Label Studio hands it back."""


def tasks_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each task of an export, and what errors call it.

    Raises:
        BadInputError: the file is no JSON, or no list of tasks.
    """
    for number, (key, task) in enumerate(json_entries(path)):
        if key or not isinstance(task, dict):
            raise BadInputError(f"{path}: expected Label Studio's export, a list of tasks, got {key or task!r:.40}")
        yield f"{path}: task {number}", task


def name_in(task: Mapping[str, Any]) -> str:
    """What the image's record is called, where subcam wrote the task; else ""."""
    meta = task.get("meta")
    name = meta.get(NAME_KEY) if isinstance(meta, dict) else None
    return name if isinstance(name, str) else ""


def is_full(task: Mapping[str, Any]) -> bool:
    """Whether a task is in the full form (JSON), and not in JSON-MIN."""
    return "annotations" in task or "completions" in task


class NotAnnotatedError(BadInputError):
    """Nobody has opened a task yet, or submitted it."""


def submitted(task: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The annotations of a task in the full form that were neither cancelled nor skipped.

    Raises:
        BadInputError: there is none, so that what the image shows is unknown; `NotAnnotatedError` if none was begun.
    """
    annotations = entries(task.get("annotations", task.get("completions")))
    kept = [entry for entry in annotations if not (entry.get("was_cancelled") or entry.get("skipped"))]
    if not kept:
        how = "skipped" if annotations else "not annotated"
        kind = BadInputError if annotations else NotAnnotatedError
        raise kind(f"{where}: was {how}, so what its image shows is unknown; annotate it, or leave it out")
    return kept


def results_of(annotation: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The results of an annotation.

    Raises:
        BadInputError: there is no list of them.
    """
    results = annotation.get("result")
    if not isinstance(results, list):
        raise BadInputError(f"{where}: expected a list of results, got {str(results)[:40]}; export the tasks again")
    return entries(results)


def names_of_region(region: Mapping[str, Any]) -> Iterator[str]:
    """Names stand under a region's type: choices, rectanglelabels, polygonlabels, brushlabels, ..."""
    value = region.get("value")
    if isinstance(value, dict):
        yield from texts(value.get(str(region.get("type"))))


def is_drawn(region: Mapping[str, Any]) -> bool:
    """Whether a region is a place in the image."""
    value = region.get("value")
    return isinstance(value, dict) and not {"x", "points", "rle", "vertices"}.isdisjoint(value)


def entries(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none where it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def texts(value: Any) -> Iterator[str]:
    """Names in a text, a list, or the paths of a taxonomy, of which the last word counts."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry[-1] if isinstance(entry, list) and entry else entry)


def address_of(task: Mapping[str, Any], where: str) -> str:
    """The text of a task that is an image's address: under "image" if there is one, else the first with a suffix.

    Raises:
        BadInputError: there is none.
    """
    data = task.get("data", task)
    found = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
    if "image" in found:
        return found["image"]
    address = next((text for text in found.values() if looks_like_image(path_in(text))), None)
    if address is None:
        raise BadInputError(f"{where}: expected the address of an image, got {str(task)[:60]}")
    return address
