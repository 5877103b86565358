"""The annotator's loop against a running Label Studio: drafts in, the worst first, one corrected, exported, taken back.

It lives in an environment of its own, which `SUBCAM_LABEL_STUDIO` names by its program:

    uv venv build/label-studio && VIRTUAL_ENV=build/label-studio uv pip install label-studio
    SUBCAM_LABEL_STUDIO=build/label-studio/bin/label-studio pytest tests/interop/test_label_studio_server.py

The server listens on the loopback address alone and keeps everything in a temporary folder.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.made_masks import NAMES
from tests.run_files.test_corrections import Made, brush, make_corrected, same

from subcam import cli
from subcam.data.images import read_indices
from subcam.errors import BadInputError
from subcam.export.images import find_images
from subcam.export.label_studio import export_label_studio
from subcam.export.mask_folder import open_masks
from subcam.metrics.masks_csv import MaskRow, RegionRow, worst_first

PROGRAM = os.environ.get("SUBCAM_LABEL_STUDIO", "")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
STARTS_WITHIN = 240.0
"""Seconds: at first it makes its data base."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs Label Studio's program (SUBCAM_LABEL_STUDIO)"),
]


@dataclass(frozen=True)
class Server:
    """A running server. `images` is what it serves as local files."""

    address: str
    images: Path

    def call(self, path: str, value: Any = None, *, body: bytes | None = None, kind: str = "application/json") -> Any:
        """What the HTTP API answers to a GET, or to a POST of a value or body."""
        data = json.dumps(value).encode() if value is not None else body
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": kind}
        request = urllib.request.Request(f"{self.address}{path}", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            error.add_note(error.read().decode(errors="replace")[:500])
            raise

    def project(self, interface: Path) -> int:
        made = self.call("/api/projects/", {"title": "corrections", "label_config": interface.read_text("utf-8")})
        return int(made["id"])

    def tasks(self, project: int) -> list[dict[str, Any]]:
        query = urllib.parse.quote(json.dumps({"ordering": ["tasks:predictions_score"]}))
        listed = self.call(f"/api/tasks?project={project}&page_size=100&fields=all&query={query}")
        return list(listed["tasks"])

    def export(self, project: int, to: Path) -> Path:
        exported = self.call(f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
        to.write_text(json.dumps(exported))
        return to


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(folder / "served"),
        "COLLECT_ANALYTICS": "False",
        "LATEST_VERSION_CHECK": "False",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    words = [PROGRAM, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    words += ["--username", "a@example.org", "--password", "only-for-tests", "--user-token", TOKEN]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            running = Server(f"http://127.0.0.1:{port}", folder / "served" / "images")
            until = time.monotonic() + STARTS_WITHIN
            while True:
                try:
                    running.call("/api/version")
                    break
                except OSError:  # it does not answer yet
                    if process.poll() is not None or time.monotonic() > until:
                        pytest.fail(f"Label Studio did not start: {(folder / 'log').read_text()[-2000:]}")
                    time.sleep(1)
            yield running
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_corrected(tmp_path)


def rows(made: Made) -> list[MaskRow]:
    """Confidences of the drafts, the worst first."""
    names = sorted(made.drafts)
    return worst_first(
        [
            MaskRow(
                image=name,
                confidence=(place * 7 % 4 + 1) / 10,
                lowered_by="",
                regions={NAMES[0]: RegionRow(area=0.5, confidence=0.25)},
            )
            for place, name in enumerate(names)
        ]
    )


def test_the_loop(server: Server, made: Made) -> None:
    """Names with spaces, brackets, accents and folders come back; the drafts that nobody submitted do not."""
    order = rows(made)
    drafts = open_masks(made.root / "drafts", class_names=NAMES).only([row.image for row in order])
    tasks_path, interface = export_label_studio(
        drafts,
        made.root / "tasks",
        images=find_images(made.drafts, made.root / "images"),
        confidences={row.image: row for row in order},
    )
    project = server.project(interface)
    server.call(f"/api/projects/{project}/import", json.loads(tasks_path.read_text("utf-8")))

    listed = server.tasks(project)
    assert [task["predictions_score"] for task in listed] == [row.confidence for row in order]
    assert [task["meta"]["subcam"] for task in listed] == [row.image for row in order]
    assert sorted(listed, key=lambda task: task["id"]) == listed  # without asking for it, too

    worst, second, *_ = listed
    name = order[0].image
    mask = made.corrected[name]
    results = [
        brush(value, mask == value) | {"from_name": "label", "to_name": "image", "id": f"r{value}", "image_rotation": 0}
        for value in np.unique(mask[mask > 0]).tolist()
    ]
    server.call(f"/api/tasks/{worst['id']}/annotations/", {"result": results})
    server.call(f"/api/tasks/{second['id']}/annotations/", {"result": [], "was_cancelled": True})

    taken = made.take(server.export(project, made.root / "export.json"))
    assert taken.names == (name,)
    assert len(taken.skipped) == 1
    assert taken.waiting == len(order) - 2
    same(made.back(), {name: mask})


def test_uploaded_images_are_found_again(server: Server, made: Made) -> None:
    """An upload leaves no folder, no space and no bracket of a name; two that become one are refused."""
    _, interface = export_label_studio(
        made.folder, made.root / "tasks", images=find_images(made.drafts, made.root / "images")
    )
    project = server.project(interface)
    for name in made.drafts:
        upload(server, project, made.root / "images" / f"{name}.jpg")
    for task in server.tasks(project):
        server.call(f"/api/tasks/{task['id']}/annotations/", {"result": []})
    export = server.export(project, made.root / "export.json")
    with pytest.raises(BadInputError, match=r"got 2 of others: .*may be .*a \(1\) \[x\]\.jpg or .*rename one"):
        made.take(export)
    tasks = [task for task in json.loads(export.read_text()) if "a_1" not in task["data"]["image"]]
    export.write_text(json.dumps(tasks))
    assert set(made.take(export).names) == {"Ünï+&%20?", "plain"}
    assert not read_indices(made.root / "out" / "plain.png").any()


def upload(server: Server, project: int, path: Path) -> None:
    """Send a file as a browser does."""
    about = f'form-data; name="file"; filename="{path.name}"'
    head = f"--edge\r\nContent-Disposition: {about}\r\nContent-Type: image/jpeg\r\n\r\n"
    body = head.encode() + path.read_bytes() + b"\r\n--edge--\r\n"
    server.call(f"/api/projects/{project}/import", body=body, kind="multipart/form-data; boundary=edge")


def test_images_are_served_as_the_document_says(server: Server, made: Made) -> None:
    """The folder above the images is the server's; a storage of the project names theirs, and so do the addresses."""
    shutil.copytree(made.root / "images", server.images, dirs_exist_ok=True)
    images = find_images(made.drafts, server.images)
    words = ["export", "label-studio", "--predictions", str(made.root / "drafts"), "--images", str(server.images)]
    assert cli.main([*words, "--out", str(made.root / "served tasks"), "--classes", *NAMES]) == cli.EXIT_OK
    project = server.project(made.root / "served tasks" / "interface.xml")
    server.call(
        f"/api/projects/{project}/import", json.loads((made.root / "served tasks/tasks.json").read_text("utf-8"))
    )
    server.call("/api/storages/localfiles/", {"project": project, "path": str(server.images), "use_blob_urls": True})
    for task in server.tasks(project):
        request = urllib.request.Request(
            f"{server.address}{task['data']['image']}", headers={"Authorization": f"Token {TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.read() == (server.images / images.file_name(task["meta"]["subcam"])).read_bytes()
