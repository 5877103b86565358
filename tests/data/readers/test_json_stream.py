"""A JSON file gone through entry by entry gives what `json.load` gives, wherever the window cuts it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from subcam.data.readers.json_stream import json_entries
from subcam.errors import BadInputError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def gathered(path: Path, chunk: int) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for key, entry in json_entries(path, chunk=chunk):
        found.setdefault(key, []).append(entry)
    return found


def expected(content: Any) -> dict[str, list[Any]]:
    if isinstance(content, list):
        return {"": content} if content else {}
    plain = {key: value if isinstance(value, list) else [value] for key, value in content.items()}
    return {key: entries for key, entries in plain.items() if entries}


@settings(deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate])
@given(
    content=st.lists(VALUES, max_size=4) | st.dictionaries(st.text(max_size=3), VALUES, max_size=4),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
)
def test_the_same_as_reading_the_whole(
    tmp_path_factory: pytest.TempPathFactory, content: Any, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), "utf-8")
    assert gathered(path, chunk) == expected(content)


def test_a_mark_at_the_beginning_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "marked.json"
    path.write_text('{"é": [1, 2]}', "utf-8-sig")
    assert gathered(path, 1) == {"é": [1, 2]}


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an object or a list, got the file's end"),
        ("<html>", "character 0: expected an object or a list, got '<"),
        ('{"a": [1, 2', "got the file's end"),
        ('{"a": [1, 2}', "character 11: expected ',' or ']', got '}'"),
        ('{"a": [1 2]}', "character 9: expected ',' or ']', got '2"),
        ('{"a": nul}', "character 6: expecting value"),
        ('{"a" 1}', "character 5: expected ':', got '1"),
        ("{1: 2}", "expected a key in quotes, got '1"),
        ('{"a": "b', "unterminated string"),
        ('{"a": 1}}', "character 8: expected the end of the file"),
        ("[" * 100_000, "no deeper than some hundred"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str, message: str, chunk: int) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=r"bad\.json") as caught:
        list(json_entries(path, chunk=max(chunk, len(text) // 100)))
    assert message in str(caught.value)


def test_a_fault_early_in_a_large_file_is_found_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"a": [{"b": 1, c}, ' + '"filler", ' * 100_000)
    before = path.stat().st_size
    with pytest.raises(BadInputError, match="character 16"):
        list(json_entries(path, chunk=64))
    assert before > 900_000


def test_bytes_that_are_no_utf_8_and_files_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "latin.json"
    path.write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(BadInputError, match=r"latin\.json: expected UTF-8"):
        list(json_entries(path))
    with pytest.raises(BadInputError, match=r"none\.json: expected a JSON file, got none"):
        list(json_entries(tmp_path / "none.json"))
