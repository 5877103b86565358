"""Downloads against a server on this machine: cut off and gone on with, changed, failing, wrong, without room."""

import errno
import hashlib
import json
import random
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.download.local_server import Served, Server, serving

from subcam.download import transfer
from subcam.download.sources import Archive
from subcam.download.transfer import DownloadError, Patience, download, partial_size
from subcam.errors import RunFolderError, SettingsError

CONTENT = random.Random(0).randbytes(300_000)
NOT_LONG = Patience(attempts=3, wait=0, timeout=10)
CUT = 100_000


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.files["set.tar"] = Served(CONTENT)
        yield running


def archive_of(*urls: str, content: bytes = CONTENT, **checksums: str) -> Archive:
    return Archive(
        name="set.tar",
        urls=urls,
        size=len(content),
        **(checksums or {"md5": hashlib.md5(content).hexdigest()}),
        needed_bytes=1,
        most_bytes=1,
        most_members=1,
    )


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "set.tar"
    assert download(archive_of(server.url("set.tar")), path, patience=NOT_LONG) == hashlib.sha256(CONTENT).hexdigest()
    assert path.read_bytes() == CONTENT
    assert files_in(path.parent) == {"set.tar"}
    assert server.asked == [("set.tar", None, None)]


def test_a_cut_connection_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    """Only the bytes that are missing are asked for, and only if the file is still the same."""
    server.files["set.tar"].cuts = [CUT, 50_000]
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert server.asked == [
        ("set.tar", None, None),
        ("set.tar", f"bytes={CUT}-", '"first"'),
        ("set.tar", f"bytes={CUT + 50_000}-", '"first"'),
    ]
    assert server.sent == [CUT, 50_000, len(CONTENT) - CUT - 50_000]


def test_another_day_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"].cuts = [CUT, 0, 0]
    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    with pytest.raises(DownloadError, match=f"the connection ended after {CUT} of 300000 bytes"):
        download(archive, path, patience=NOT_LONG)
    assert files_in(tmp_path) == {"set.tar.part", "set.tar.part.json"}
    assert partial_size(path) == CUT
    server.asked.clear()
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert server.asked == [("set.tar", f"bytes={CUT}-", '"first"')]
    assert files_in(tmp_path) == {"set.tar"}


def test_an_interrupted_download_is_gone_on_with(server: Server, tmp_path: Path, monkeypatch) -> None:
    """Ctrl-C in the middle of the bytes."""
    received = []
    read = urllib.request.http.client.HTTPResponse.read

    def interrupted(self: object, amount: int) -> bytes:
        if len(received) == 2:
            raise KeyboardInterrupt
        received.append(read(self, amount))
        return received[-1]

    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    with monkeypatch.context() as patch:
        patch.setattr(urllib.request.http.client.HTTPResponse, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            download(archive, path, patience=NOT_LONG)
    there = sum(map(len, received))
    assert partial_size(path) == there > 0
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1][1] == f"bytes={there}-"


def test_all_bytes_but_no_name_yet_is_only_checked(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"].cuts = [len(CONTENT) - 1, 0, 0]
    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    with pytest.raises(DownloadError):
        download(archive, path, patience=NOT_LONG)
    (tmp_path / "set.tar.part").write_bytes(CONTENT)
    server.asked.clear()
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"] = Served(CONTENT, ranges=False, cuts=[CUT])
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert server.sent == [CUT, len(CONTENT)]


def test_a_server_that_does_not_say_the_length(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"] = Served(CONTENT, says_length=False, etag=None, cuts=[CUT])
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    server.files["set.tar"] = Served(CONTENT + b"more", says_length=False)
    with pytest.raises(DownloadError, match="expected a file of 300000 bytes, the server sends more"):
        download(archive_of(server.url("set.tar")), tmp_path / "again.tar", patience=NOT_LONG)


@pytest.mark.parametrize("field", ["etag", "last_modified"])
def test_a_file_that_changed_in_between_starts_again(server: Server, tmp_path: Path, field: str) -> None:
    """The half of the old file is not joined to the half of the new one."""
    old = bytes(reversed(CONTENT))
    server.files["set.tar"] = Served(old, **{"etag": None, field: '"old"'}, cuts=[CUT, 0, 0])
    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    with pytest.raises(DownloadError):
        download(archive, path, patience=NOT_LONG)
    server.files["set.tar"] = Served(CONTENT, **{"etag": None, field: '"new"'})
    server.sent.clear()
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1][1:] == (f"bytes={CUT}-", '"old"')
    assert server.sent == [len(CONTENT)]


@pytest.mark.parametrize(
    "range_header", ["bytes 5-299999/300000", f"bytes {CUT}-299999/*", "nothing of use", f"bytes {CUT}-1/299999"]
)
def test_a_part_that_is_not_the_rest_is_not_taken(server: Server, tmp_path: Path, range_header: str) -> None:
    server.files["set.tar"] = Served(CONTENT, cuts=[CUT], range_header=range_header)
    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    if range_header.endswith("299999") and not range_header.startswith("bytes 5"):
        with pytest.raises(DownloadError, match="the server announces 299999"):
            download(archive, path, patience=NOT_LONG)
        return
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted, _ in server.asked] == [None, f"bytes={CUT}-", None]


def test_a_weak_etag_is_no_promise_of_equal_bytes(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"] = Served(CONTENT, etag='W/"same"', cuts=[CUT])
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert server.asked[1] == ("set.tar", f"bytes={CUT}-", None)


def test_a_part_that_is_too_long_starts_again(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"].cuts = [CUT, 0, 0]
    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    with pytest.raises(DownloadError):
        download(archive, path, patience=NOT_LONG)
    (tmp_path / "set.tar.part").write_bytes(CONTENT + b"more")
    server.asked.clear()
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted, _ in server.asked] == ["bytes=300004-", None]


@pytest.mark.parametrize("record", [None, "{", "{}"])
def test_a_part_of_which_nothing_is_known_starts_again(server: Server, tmp_path: Path, record: str | None) -> None:
    (tmp_path / "set.tar.part").write_bytes(b"x" * 1000)
    if record is not None:
        (tmp_path / "set.tar.part.json").write_text(record)
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert server.asked == [("set.tar", None, None)]


def test_the_next_address_takes_over_where_one_ends(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"].cuts = [CUT, 0, 0]
    server.files["mirror/set.tar"] = Served(CONTENT, etag='"another"')
    download(archive_of(server.url("set.tar"), server.url("mirror/set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert server.asked[-1] == ("mirror/set.tar", f"bytes={CUT}-", None)


def test_addresses_are_tried_in_order(server: Server, tmp_path: Path, capsys) -> None:
    server.files["gone"] = Served(b"", statuses=[410])
    server.files["page"] = Served(b"<html>please log in</html>")
    urls = [server.url(name) for name in ("nowhere", "gone", "page", "set.tar", "never")]
    download(archive_of(*urls), tmp_path / "set.tar", patience=NOT_LONG)
    assert [name for name, _, _ in server.asked] == ["nowhere", "gone", "page", "set.tar"]
    said = capsys.readouterr().out
    assert "the server answers 404" in said
    assert "the server answers 410" in said
    assert "expected a file of 300000 bytes, the server announces 26 (a page of a proxy" in said
    server.asked.clear()
    own = (server.url("set.tar"),)
    download(archive_of(*urls), tmp_path / "again.tar", urls=own, patience=NOT_LONG)
    assert [name for name, _, _ in server.asked] == ["set.tar"]


def test_a_busy_server_is_asked_again_later(server: Server, tmp_path: Path, monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    server.files["set.tar"].statuses = [503, 429, 500]
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=Patience(wait=2, timeout=10))
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert waited == [2, 4, 8]


def test_a_line_that_breaks_often_gets_there(server: Server, tmp_path: Path, monkeypatch) -> None:
    """What counts are failures without a single byte in between."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.files["set.tar"].cuts = [10_000] * 20
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=Patience(attempts=2, timeout=10))
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert len(server.asked) == 21


def test_a_server_without_ranges_that_breaks_always_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"] = Served(CONTENT, ranges=False, cuts=[CUT, CUT - 1, CUT, CUT - 1, CUT])
    with pytest.raises(DownloadError, match="the connection ended after"):
        download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert len(server.asked) == 3


def test_a_wrong_checksum_is_never_used(server: Server, tmp_path: Path) -> None:
    wrong = bytes(reversed(CONTENT))
    server.files["set.tar"] = Served(wrong)
    with pytest.raises(DownloadError) as caught:
        download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert f"expected MD5 {hashlib.md5(CONTENT).hexdigest()}, got {hashlib.md5(wrong).hexdigest()}" in str(caught.value)
    assert f"kept as {tmp_path / 'set.tar.wrong'} and not used" in str(caught.value)
    assert "--archives" in str(caught.value)
    assert files_in(tmp_path) == {"set.tar.wrong"}
    assert len(server.asked) == 1


def test_either_checksum_can_tell(server: Server, tmp_path: Path) -> None:
    md5, sha256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
    url = server.url("set.tar")
    download(archive_of(url, md5=md5, sha256=sha256), tmp_path / "set.tar", patience=NOT_LONG)
    with pytest.raises(DownloadError, match=f"expected SHA256 {'0' * 64}, got {sha256}; the download is kept"):
        download(archive_of(url, md5=md5, sha256="0" * 64), tmp_path / "again.tar", patience=NOT_LONG)


def test_a_wrong_file_that_was_put_together_is_had_once_more(server: Server, tmp_path: Path) -> None:
    """Halves of different files of one length, when no server tells them apart."""
    server.files["set.tar"] = Served(bytes(reversed(CONTENT)), etag=None, cuts=[CUT, 0, 0])
    archive, path = archive_of(server.url("set.tar")), tmp_path / "set.tar"
    with pytest.raises(DownloadError):
        download(archive, path, patience=NOT_LONG)
    server.files["set.tar"] = Served(CONTENT, etag=None)
    server.sent.clear()
    download(archive, path, patience=NOT_LONG)
    assert path.read_bytes() == CONTENT
    assert server.sent == [len(CONTENT) - CUT, len(CONTENT)]


@pytest.mark.parametrize(
    ("fault", "said", "times"),
    [
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "no such host, or no network", 1),
        (urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable")), "no network", 1),
        (urllib.error.URLError(TimeoutError("timed out")), "no answer in time", 3),
        (TimeoutError("timed out"), "no answer in time", 3),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), "the connection failed .*reset by peer", 3),
        (urllib.error.URLError(ssl.SSLCertVerificationError("self-signed")), "its certificate is not valid", 1),
    ],
)
def test_faults_of_the_network_are_said(tmp_path: Path, monkeypatch, fault: Exception, said: str, times: int) -> None:
    """What cannot pass is not tried again."""
    asked = []

    def failing(self: object, request: urllib.request.Request, timeout: float) -> None:
        asked.append(request.full_url)
        if isinstance(fault, urllib.error.URLError) and isinstance(fault.reason, ssl.SSLCertVerificationError):
            fault.reason.verify_message = "self-signed certificate"
        raise fault

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", failing)
    with pytest.raises(DownloadError, match=said) as caught:
        download(archive_of("https://nowhere.invalid/set.tar"), tmp_path / "set.tar", patience=NOT_LONG)
    assert "set https_proxy" in str(caught.value)
    assert len(asked) == times


def test_a_network_that_fails_in_between_is_waited_for(server: Server, tmp_path: Path, monkeypatch) -> None:
    """A name that cannot be found any more, after bytes came from it, is not the end."""
    server.files["set.tar"].cuts = [CUT]
    opened = urllib.request.OpenerDirector.open
    asked = []

    def failing(self: urllib.request.OpenerDirector, request: urllib.request.Request, timeout: float) -> object:
        asked.append(request.get_header("Range"))
        if len(asked) in (2, 3):
            raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))
        return opened(self, request, timeout=timeout)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", failing)
    patience = Patience(attempts=4, wait=0, timeout=10)
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=patience)
    assert (tmp_path / "set.tar").read_bytes() == CONTENT
    assert asked == [None, *[f"bytes={CUT}-"] * 3]


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/set.tar"
        with pytest.raises(DownloadError, match=r"the connection failed .*refused"):
            download(archive_of(url), tmp_path / "set.tar", patience=NOT_LONG)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_part_that_is_a_link_is_not_written_through(server: Server, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(CONTENT[:CUT])
    (tmp_path / "set.tar.part").symlink_to(foreign)
    download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    assert foreign.read_bytes() == CONTENT[:CUT]
    assert (tmp_path / "set.tar").read_bytes() == CONTENT


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(transfer, "_copy", full)
    with pytest.raises(RunFolderError, match=r"no space left for .*set\.tar; free some"):
        download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot write"):
        download(archive_of(server.url("set.tar")), tmp_path / "file" / "set.tar", patience=NOT_LONG)


def test_only_addresses_of_the_web(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    with pytest.raises(SettingsError, match="expected an address that begins with https"):
        download(archive_of(), tmp_path / "set.tar", urls=(secret.as_uri(),), patience=NOT_LONG)


def test_the_record_of_a_part_is_readable(server: Server, tmp_path: Path) -> None:
    server.files["set.tar"].cuts = [CUT, 0, 0]
    with pytest.raises(DownloadError):
        download(archive_of(server.url("set.tar")), tmp_path / "set.tar", patience=NOT_LONG)
    record = json.loads((tmp_path / "set.tar.part.json").read_text())
    assert record == {
        "url": server.url("set.tar"),
        "length": len(CONTENT),
        "etag": '"first"',
        "last_modified": None,
    }
