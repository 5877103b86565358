"""Clusters as tables: what is written, what a person or a spreadsheet makes of it, and what is refused by its line."""

import csv
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subcam.clustering.clusters_csv import (
    NamedClusters,
    clusters_digest,
    names_path,
    read_clusters,
    write_clusters,
)
from subcam.clustering.subcategories import Subcategories, discover_subcategories
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError
from subcam.runtime.files import fault_of_name

K = 3
HOSTILE = ('a,b;"c"\tä/b', " =1+1 ", "line\nbreak", "line\rbreak", "007", "\u2028", "sep=", "日本")


def image_set_of(
    labels: list[tuple[int, ...]], names: list[str], classes: tuple[str, ...] = ("cat", "dög")
) -> ImageSet:
    records = [Record(name=name, image=Path("nowhere"), labels=own) for name, own in zip(names, labels, strict=True)]
    return ImageSet(class_names=classes, records=tuple(records), mask_values=(0,) * 256)


@pytest.fixture
def image_set() -> ImageSet:
    """Eight images: cat in all but one, dög in four, neither in the last."""
    labels = [(0,), (0, 1), (0,), (0, 1), (1,), (0, 1), (0,), ()]
    return image_set_of(labels, [f"2007_{i:06d}" for i in range(8)])


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)


@pytest.fixture
def subcategories(image_set: ImageSet, features: np.ndarray) -> Subcategories:
    return discover_subcategories(features, image_set.labels, num_subcategories=K, restarts=2)


@pytest.fixture
def path(image_set: ImageSet, features: np.ndarray, subcategories: Subcategories, tmp_path: Path) -> Path:
    write_clusters(tmp_path, image_set, subcategories, features=features)
    return tmp_path / "clusters.csv"


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: list[list[str]], *, delimiter: str = ",", encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


@pytest.fixture
def edit(path: Path) -> Callable[..., None]:
    """Change one cell of a table: by the first cells of its row, and its column."""

    def edit(table: Path, *start: str, **cells: str) -> None:
        rows = rows_of(table)
        (row,) = [row for row in rows if row[: len(start)] == list(start)]
        for column, text in cells.items():
            row[rows[0].index(column)] = text
        write_rows(table, rows)

    return edit


# What is written


def test_the_table_of_clusters_has_distances_and_ranks(
    path: Path, image_set: ImageSet, features: np.ndarray, subcategories: Subcategories
) -> None:
    header, *rows = rows_of(path)
    assert header == ["image", "parent", "cluster", "name", "distance", "rank"]
    assert len(rows) == image_set.labels.sum() == 10
    by_cluster: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for image, parent, cluster, name, distance, rank in rows:
        index, c = int(image[-2:]), image_set.class_names.index(parent)
        assert int(cluster) == subcategories.assignments[index, c]
        assert name == f"{parent} {cluster}"
        centre = features[subcategories.assignments[:, c] == int(cluster)].mean(0)
        assert float(distance) == pytest.approx(float(np.sqrt(((features[index] - centre) ** 2).sum())), abs=1e-5)
        by_cluster.setdefault((parent, cluster), []).append((int(rank), float(distance)))
    for members in by_cluster.values():
        assert [rank for rank, _ in sorted(members)] == list(range(1, len(members) + 1))
        assert [distance for _, distance in sorted(members)] == sorted(distance for _, distance in members)


def test_the_table_of_names_has_sizes(path: Path, subcategories: Subcategories) -> None:
    header, *rows = rows_of(names_path(path))
    assert names_path(path).name == "clusters-names.csv"
    assert header == ["parent", "cluster", "name", "size", "merged_into"]
    expected = [
        [parent, str(k), f"{parent} {k}", str(subcategories.sizes[c, k]), ""]
        for c, parent in enumerate(("cat", "dög"))
        for k in range(subcategories.num_clusters[c])
    ]
    assert rows == expected


def test_names_that_are_given_are_written(
    image_set: ImageSet, features: np.ndarray, subcategories: Subcategories, tmp_path: Path
) -> None:
    names = [["sitting", "lying", "head, only"], ["big", "small", "=far"]]
    write_clusters(tmp_path, image_set, subcategories, features=features, names=names)
    assert [row[2] for row in rows_of(tmp_path / "clusters-names.csv")[1:]] == [*names[0], *names[1]]
    read = read_clusters(tmp_path / "clusters.csv", image_set)
    assert read.names == tuple(map(tuple, names))


# What is read back


def assert_same(read: NamedClusters, subcategories: Subcategories) -> None:
    np.testing.assert_array_equal(read.assignments, subcategories.assignments)
    assert list(map(len, read.names)) == subcategories.num_clusters.tolist()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_what_spreadsheets_make_of_it_is_read(
    path: Path, image_set: ImageSet, subcategories: Subcategories, delimiter: str, encoding: str
) -> None:
    for table in (path, names_path(path)):
        rows = [[cell.replace(".", ",") for cell in row] for row in rows_of(table)]  # decimal commas
        rows.insert(3, [""] * len(rows[0]))
        write_rows(table, [[*row, "", ""] for row in rows], delimiter=delimiter, encoding=encoding)
    assert_same(read_clusters(path, image_set), subcategories)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_end_of_line_and_the_line_of_excel_are_read(
    path: Path, image_set: ImageSet, subcategories: Subcategories, end: str
) -> None:
    text = path.read_bytes().decode().replace("\r\n", end).replace(",", ";")
    path.write_bytes(f"sep=;{end}{end}{text}".encode())
    assert_same(read_clusters(path, image_set), subcategories)
    path.write_bytes(f"sep=;{end}{end}{text}".replace("2007_000006", "2007_6").encode())
    with pytest.raises(BadInputError, match=r"clusters\.csv:13: unknown image '2007_6'"):
        read_clusters(path, image_set)


def test_columns_may_be_moved_and_those_for_reading_left_out(
    path: Path, image_set: ImageSet, subcategories: Subcategories
) -> None:
    write_rows(path, [[row[2], row[0], row[1]] for row in rows_of(path)])
    names_path(path).unlink()
    read = read_clusters(path, image_set)
    assert_same(read, subcategories)
    assert read.names == tuple(tuple(f"{parent} {k}" for k in range(K)) for parent in image_set.class_names)


texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12),
)


class_names = texts.filter(lambda name: not re.search(r"[^\S ]", name) and name.isprintable())
"""What a class may be called: nothing that no eye sees."""

file_names = texts.filter(lambda name: not fault_of_name(name))
"""What an image may be called."""


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_names_come_back(data: st.DataObject, tmp_path: Path) -> None:
    """Parents and clusters of hostile names, images of any allowed: all come back, composed."""
    classes = tuple(data.draw(st.lists(class_names, min_size=1, max_size=3, unique_by=composed)))
    images = data.draw(st.lists(file_names, min_size=1, max_size=6, unique_by=composed))
    every = tuple(range(len(classes)))
    labels = [tuple(sorted(data.draw(st.sets(st.sampled_from(every))))) for _ in images]
    image_set = image_set_of(labels, images, classes)
    features = np.random.default_rng(0).normal(size=(len(images), 2)).astype(np.float32)
    subcategories = discover_subcategories(features, image_set.labels, num_subcategories=2, restarts=1)
    names = [[data.draw(texts) for _ in range(k)] for k in subcategories.num_clusters]
    write_clusters(tmp_path, image_set, subcategories, features=features, names=names)
    read = read_clusters(tmp_path / "clusters.csv", image_set)
    np.testing.assert_array_equal(read.assignments, subcategories.assignments)
    assert read.names == tuple(tuple(map(composed, own)) for own in names)


# What a person changes


def test_merged_clusters_share_a_number_and_the_others_move_up(
    path: Path, image_set: ImageSet, subcategories: Subcategories, edit: Callable
) -> None:
    edit(names_path(path), "cat", "0", merged_into="2")
    edit(names_path(path), "cat", "2", name="lying")
    read = read_clusters(path, image_set)
    expected = subcategories.assignments.copy()
    expected[:, 0] = np.array([1, 0, 1, -1])[subcategories.assignments[:, 0]]
    np.testing.assert_array_equal(read.assignments, expected)
    assert read.names == (("cat 1", "lying"), ("dög 0", "dög 1", "dög 2"))


def test_a_chain_of_merges_ends_where_it_ends(path: Path, image_set: ImageSet, edit: Callable) -> None:
    edit(names_path(path), "cat", "0", merged_into="1")
    edit(names_path(path), "cat", "1", merged_into=" 2.0 ")  # what pandas makes of a column with gaps
    read = read_clusters(path, image_set)
    assert read.names[0] == ("cat 2",)
    assert set(read.assignments[:, 0]) == {-1, 0}


def test_a_moved_image_and_an_emptied_cluster(path: Path, image_set: ImageSet, subcategories: Subcategories) -> None:
    rows = rows_of(path)
    for row in rows[1:]:
        if row[1] == "cat" and row[2] == "0":
            row[2] = "1"
    write_rows(path, rows)
    read = read_clusters(path, image_set)
    assert read.names[0] == ("cat 1", "cat 2")
    np.testing.assert_array_equal(read.assignments[:, 0], np.array([0, 0, 1, -1])[subcategories.assignments[:, 0]])


def test_a_cluster_that_a_person_adds(path: Path, image_set: ImageSet, edit: Callable) -> None:
    rows = rows_of(names_path(path))
    write_rows(names_path(path), [*rows, ["cat", "7", "seen from behind", "", ""]])
    edit(path, "2007_000000", "cat", cluster="7")
    read = read_clusters(path, image_set)
    assert read.names[0][-1] == "seen from behind"
    assert read.assignments[0, 0] == len(read.names[0]) - 1


def test_the_digest_is_of_both_files_wherever_they_lie(path: Path, tmp_path: Path, edit: Callable) -> None:
    before = clusters_digest(path)
    (tmp_path / "moved").mkdir()
    for table in (path, names_path(path)):
        (tmp_path / "moved" / table.name).write_bytes(table.read_bytes())
    assert clusters_digest(tmp_path / "moved" / "clusters.csv") == before
    edit(names_path(path), "cat", "0", name="sitting")
    renamed = clusters_digest(path)
    names_path(path).unlink()
    assert len({before, renamed, clusters_digest(path)}) == 3
    with pytest.raises(BadInputError, match=r"nowhere\.csv cannot be read"):
        clusters_digest(tmp_path / "nowhere.csv")


# What is refused


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"image": "7"}, r"clusters\.csv:2: unknown image '7'.*a spreadsheet may have changed it"),
        ({"image": "2008_000000"}, r"clusters\.csv:2: unknown image '2008_000000': did you mean '2007_000000'"),
        ({"parent": "cta"}, r"clusters\.csv:2: unknown parent 'cta': did you mean 'cat'\?"),
        ({"parent": "dög"}, r"clusters\.csv:2: '2007_000000' has no label 'dög'; remove the row"),
        ({"cluster": "5"}, r"clusters\.csv:2: cluster 5 of 'cat' is not in clusters-names\.csv, which has 0, 1, 2"),
        ({"cluster": "one"}, r"clusters\.csv:2: expected in column 'cluster' the number of a cluster .* got 'one'"),
        ({"cluster": "-1"}, r"clusters\.csv:2: expected in column 'cluster' the number"),
        ({"cluster": "1.5"}, r"clusters\.csv:2: expected in column 'cluster' the number"),
        ({"cluster": "99999"}, r"clusters\.csv:2: expected in column 'cluster' the number"),
        ({"image": "2007_000002"}, r"clusters\.csv:5: '2007_000002' has a cluster of 'cat' on line 2 already"),
    ],
)
def test_rows_that_cannot_be(path: Path, image_set: ImageSet, edit: Callable, cells: dict, message: str) -> None:
    edit(path, "2007_000000", "cat", **cells)
    with pytest.raises(BadInputError, match=message):
        read_clusters(path, image_set)


def test_an_image_without_a_row_is_named(path: Path, image_set: ImageSet) -> None:
    write_rows(path, [row for row in rows_of(path) if row[0] != "2007_000003"])
    message = "2 are missing: '2007_000003' (cat), '2007_000003' (dög); add them"
    with pytest.raises(BadInputError, match=re.escape(message)):
        read_clusters(path, image_set)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ({"1": "1"}, r"names\.csv:3: clusters of 'cat' are merged in a circle, 1 into 1; empty one of them"),
        ({"0": "1", "1": "2", "2": "1"}, r"names\.csv:4: clusters of 'cat' are merged in a circle, 1 into 2 into 1"),
        ({"0": "4"}, r"names\.csv:2: expected in merged_into another cluster of 'cat' \(0, 1, 2\), got 4"),
        ({"0": "dög 1"}, r"names\.csv:2: expected in column 'merged_into' the number of a cluster .* got 'dög 1'"),
    ],
)
def test_merges_that_cannot_be(path: Path, image_set: ImageSet, edit: Callable, merges: dict, message: str) -> None:
    for cluster, target in merges.items():
        edit(names_path(path), "cat", cluster, merged_into=target)
    with pytest.raises(BadInputError, match=message):
        read_clusters(path, image_set)


def test_a_cluster_named_twice_is_refused(path: Path, image_set: ImageSet) -> None:
    rows = rows_of(names_path(path))
    write_rows(names_path(path), [*rows, rows[1]])
    with pytest.raises(BadInputError, match=r"names\.csv:8: cluster 0 of 'cat' stands on line 2 already"):
        read_clusters(path, image_set)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"clusters\.csv: expected a header with the columns image, parent, cluster, got an empty file"),
        ("image,cluster\n", r"clusters\.csv:1: expected a header .* got image, cluster; add parent"),
        ("image,parent,cluster\na,cat\n", r"clusters\.csv:2: expected 3 cells as in the header, got 2"),
        ('image,parent,cluster\n\n"a,cat,0\n', r"clusters\.csv:3: not a table .*; check the quotes"),
        ("image,parent,cluster\na\0b,cat,0\n", "expected text, got zero bytes"),
    ],
)
def test_files_that_are_no_tables(path: Path, image_set: ImageSet, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_clusters(path, image_set)


def test_no_file(tmp_path: Path, image_set: ImageSet) -> None:
    with pytest.raises(BadInputError, match=r"clusters\.csv: expected a text file, got none"):
        read_clusters(tmp_path / "clusters.csv", image_set)
