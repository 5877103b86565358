"""A hub on this machine, which takes and gives model folders as the Hugging Face hub does."""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """What of the Hugging Face hub's interface uploads and downloads need, with one repository kept in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.created: list[dict] = []
        self.tokens: set[str | None] = set()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""

    def give(self, content: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        self.server.asked.append(self.path)
        if not self.path.startswith(("/api/models/anna/fishes", "/anna/fishes")) or not self.server.files:
            self.give(b"{}", status=404, X_Error_Code="RepoNotFound")
        elif self.path.startswith("/api/"):
            revision = self.path.partition("/revision/")[2].partition("?")[0]
            if revision not in ("", "main", self.server.commit):
                self.give(b"{}", status=404, X_Error_Code="RevisionNotFound")
                return
            if "/tree/" in self.path:
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in self.server.files.items()
                ]
                self.give(json.dumps(tree).encode(), Content_Type="application/json")
                return
            names = [{"rfilename": name} for name in self.server.files]
            about = {"id": "anna/fishes", "sha": self.server.commit, "siblings": names, "private": False}
            self.give(json.dumps(about).encode(), Content_Type="application/json")
        else:
            content = self.server.files[self.path.rpartition("/")[2]]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.give(content, ETag=etag, X_Repo_Commit=self.server.commit, Accept_Ranges="none")

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def do_POST(self) -> None:
        self.server.tokens.add(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answer: dict = {"url": f"{self.server.address}/anna/fishes"}
        if self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(body))
        elif self.path.endswith("/api/validate-yaml"):
            answer = {"errors": [], "warnings": []}
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            answer = {"commitUrl": f"{self.server.address}/anna/fishes/commit/x", "commitOid": self.server.commit}
        self.give(json.dumps(answer).encode(), Content_Type="application/json")
