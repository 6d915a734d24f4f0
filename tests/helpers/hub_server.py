"""A Hub on loopback for tests: it speaks what the Hugging Face client asks of the real one, and breaks on demand.

It keeps repositories, commits, branches and pull requests; who may see and write what; which repository holds which
large file, so that a commit may only name those that were uploaded to it or copied into it. It counts bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.helpers.hub_http import Answer, Handler, Refused, Request, Seen, Server, json_answer
from tests.helpers.hub_repository import ATTRIBUTES, HUGE, Blob, Commit, Repo, entry, is_large, preuploaded, xet_hash


class Hub:
    """The server.

    `fault` decides of each request, by its number since `watch`, whether it goes through (None), is answered by a
    status, is dropped unheard (`drop`), or heard and not answered (`lose`).
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.store: dict[str, Blob] = {}
        self.tokens: dict[str, tuple[str, bool]] = {"hf_me": ("me", True), "hf_reader": ("me", False)}
        self.seen: list[Seen] = []
        self.fault: Callable[[int, Seen], int | str | None] = lambda number, seen: None
        self.copies_refused: int | str | None = None
        self.lock = threading.RLock()
        self.url = ""

    # What tests use

    @contextmanager
    def running(self) -> Iterator[Hub]:
        server = Server(("127.0.0.1", 0), Handler)
        server.hub = self
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def publish(self, name: str, folder: Path, **about: Any) -> Repo:
        """Make a repository of a folder."""
        repo = self.repos[name] = Repo(name, **about)
        repo.add("initial commit", {".gitattributes": Blob(ATTRIBUTES, large=False)})
        files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
        blobs = {path: self.stored(repo, file, path) for path, file in files.items()}
        repo.add("the model", {**repo.head.files, **blobs})
        return repo

    def stored(self, repo: Repo, data: bytes | Path, path: str) -> Blob:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        if isinstance(data, Path) and size < HUGE:
            data = data.read_bytes()  # the test may change the file
        blob = Blob(data, is_large(path, 0))
        if size >= HUGE:
            blob.sha256 = hashlib.sha256(f"{path} {size}".encode()).hexdigest()  # made up: nobody has the contents
        if blob.large:
            blob = self.store.setdefault(blob.sha256, blob)
            repo.objects.add(blob.sha256)
        return blob

    def watch(self, fault: Callable[[int, Seen], int | str | None] | None = None) -> None:
        """Forget the requests so far, and what broke them."""
        with self.lock:
            self.seen.clear()
            self.fault = fault or (lambda number, seen: None)

    @property
    def received(self) -> int:
        return sum(seen.received for seen in self.seen)

    @property
    def sent(self) -> int:
        return sum(seen.sent for seen in self.seen)

    @property
    def calls(self) -> list[str]:
        return [seen.short for seen in self.seen]

    # What the client asks

    def answer(self, request: Request) -> Answer:
        for method, pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and request.method in method:
                return handle(self, request, **{key: unquote(value) for key, value in found.groupdict().items()})
        raise Refused(404, f"no such endpoint: {request.method} {request.path}")

    def whoami(self, request: Request) -> Answer:
        user = self._user(request)
        if user is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return json_answer({"type": "user", "name": user, "orgs": []})

    def create(self, request: Request) -> Answer:
        asked = request.json()
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        self._require_writer(request, name)
        if name in self.repos:
            return json_answer({"error": "You already created this model repo", "url": f"{self.url}/{name}"}, 409)
        private = asked.get("private") or asked.get("visibility") == "private"
        repo = self.repos[name] = Repo(name, private=bool(private))
        repo.add("initial commit", {".gitattributes": Blob(ATTRIBUTES, large=False)})
        return json_answer({"url": f"{self.url}/{name}", "name": name, "id": name})

    def info(self, request: Request, repo: str, revision: str = "main") -> Answer:
        found = self._readable(request, repo)
        commit = self._commit(found, revision)
        card = {"license": found.license} if found.license else {}
        return json_answer(
            {
                "id": repo,
                "modelId": repo,
                "sha": commit.oid,
                "private": found.private,
                "gated": found.gated,
                "tags": [],
                "cardData": card,
                "siblings": [{"rfilename": path} for path in commit.files],
            }
        )

    def tree(self, request: Request, repo: str, revision: str) -> Answer:
        found = self._readable(request, repo)
        files = self._commit(found, revision).files
        folders = sorted({path.rpartition("/")[0] for path in files} - {""})
        entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
        return json_answer(entries + [entry(found, path, blob) for path, blob in files.items()])

    def paths_info(self, request: Request, repo: str, revision: str) -> Answer:
        found = self._readable(request, repo)
        files = self._commit(found, revision).files
        paths = parse_qs(request.body.decode()).get("paths", [])
        return json_answer([entry(found, path, files[path]) for path in paths if path in files])

    def resolve(self, request: Request, repo: str, revision: str, path: str) -> Answer:
        found = self._open(request, repo)
        commit = self._commit(found, revision)
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound")
        blob = commit.files[path]
        etag = blob.sha256 if blob.large else blob.oid
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        start, stop = 0, blob.size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        if asked:
            start, stop = int(asked[1]), min(int(asked[2] or blob.size - 1) + 1, blob.size)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
        return Answer(206 if asked else 200, headers, blob.data, start, stop)

    def preupload(self, request: Request, repo: str, revision: str) -> Answer:
        found = self._writable(request, repo)
        files = self._commit(found, revision).files
        return json_answer({"files": [preuploaded(file, files.get(file["path"])) for file in request.json()["files"]]})

    def batch(self, request: Request, repo: str) -> Answer:
        found = self._writable(request, repo)
        objects = [
            each if each["oid"] in found.objects else {**each, "actions": self._upload(repo, each["oid"])}
            for each in request.json()["objects"]
        ]
        return json_answer({"transfer": "basic", "objects": objects})

    def _upload(self, repo: str, oid: str) -> dict[str, Any]:
        return {"upload": {"href": f"{self.url}/lfs/{repo}/{oid}"}}

    def put(self, request: Request, repo: str, oid: str) -> Answer:
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refused(422, "the contents are not those of this digest")
        self.store.setdefault(oid, Blob(request.body, large=True))
        self.repos[repo].objects.add(oid)
        return json_answer({})

    def duplicate(self, request: Request, repo: str) -> Answer:
        source, asked = self._open(request, repo), request.json()
        target = self._writable(request, asked["target"]["name"])
        if isinstance(self.copies_refused, int):
            raise Refused(self.copies_refused, "Copies are not possible")
        why = self.copies_refused or ("different storage regions" if source.region != target.region else None)
        done, failed = [], []
        for file in asked["files"]:
            known = file["sha256"] in source.objects and file["xetHash"] == xet_hash(file["sha256"])
            if why or not known:
                failed.append({"sha256": file["sha256"], "error": why or "no such file"})
                continue
            target.objects.add(file["sha256"])
            done.append({"sha256": file["sha256"]})
        return json_answer({"success": done, "failed": failed})

    def commit(self, request: Request, repo: str, revision: str) -> Answer:
        propose = request.query.get("create_pr") == ["1"]
        found = self._readable(request, repo) if propose else self._writable(request, repo)
        parent = self._commit(found, revision)
        lines = [json.loads(line) for line in request.body.splitlines()]
        header = lines.pop(0)["value"]
        if header.get("parentCommit") not in (None, parent.oid):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for line in lines:
            self._apply(found, files, line["key"], line["value"])
        number = len(found.pull_requests) + 1
        commit = found.add(header["summary"], files, f"refs/pr/{number}" if propose else revision)
        answer = {"success": True, "commitUrl": f"{self.url}/{repo}/commit/{commit.oid}", "commitOid": commit.oid}
        if propose:
            found.pull_requests[number] = header["summary"]
            answer["pullRequestUrl"] = f"{self.url}/{repo}/discussions/{number}"
        return json_answer(answer)

    def _apply(self, repo: Repo, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"], validate=True), large=False)
        elif key == "lfsFile":
            if value["oid"] not in repo.objects:
                raise Refused(400, f"{path}: the repository does not hold the large file {value['oid']}")
            files[path] = self.store[value["oid"]]
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        else:
            raise Refused(400, f"unknown operation {key}")

    def branch(self, request: Request, repo: str, name: str) -> Answer:
        found = self._writable(request, repo)
        if name in found.refs:
            raise Refused(409, "Reference already exists")
        found.refs[name] = self._commit(found, request.json().get("startingPoint") or "main").oid
        return json_answer({})

    def tag(self, request: Request, repo: str, revision: str) -> Answer:
        found, name = self._writable(request, repo), request.json()["tag"]
        commit = self._commit(found, revision)
        if name in found.tags:
            raise Refused(409, "Tag reference exists already")
        found.tags[name] = commit.oid
        return json_answer({})

    def discussions(self, request: Request, repo: str) -> Answer:
        found = self._readable(request, repo)
        listed = [
            {
                "title": title,
                "num": number,
                "author": {"name": "me"},
                "createdAt": "2024-01-01T00:00:00.000Z",
                "status": "open",
                "repo": {"name": repo, "type": "model"},
                "isPullRequest": True,
            }
            for number, title in found.pull_requests.items()
        ]
        return json_answer({"discussions": listed, "count": len(listed), "start": 0})

    def validate(self, request: Request) -> Answer:
        text = request.json()["content"]
        if not re.match(r"---\n.*?\n---\n", text, re.DOTALL):
            return json_answer({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        if "license: nonsense" in text:
            return json_answer({"errors": [{"message": '"license" must be one of …'}], "warnings": []}, 400)
        return json_answer({"errors": [], "warnings": []})

    # Who may what

    def _user(self, request: Request) -> str | None:
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.tokens.get(token, (None, False))[0]

    def _readable(self, request: Request, name: str) -> Repo:
        repo, user = self.repos.get(name), self._user(request)
        if repo and not (repo.private and name.split("/")[0] != user):
            return repo
        if user is None:
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        raise Refused(404, "Repository not found", "RepoNotFound")

    def _open(self, request: Request, name: str) -> Repo:
        """Refuse the files of a gated repository to those who did not accept its terms."""
        repo, user = self._readable(request, name), self._user(request)
        if repo.gated and user not in repo.readers:
            raise Refused(403 if user else 401, f"Access to model {name} is restricted.", "GatedRepo")
        return repo

    def _writable(self, request: Request, name: str) -> Repo:
        repo = self._readable(request, name)
        if request.query.get("create_pr") != ["1"]:
            self._require_writer(request, name)
        return repo

    def _require_writer(self, request: Request, name: str) -> None:
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        user, may_write = self.tokens.get(token, (None, False))
        if user is None:
            raise Refused(401, "Invalid username or password.")
        if not may_write or name.split("/")[0] != user:
            raise Refused(403, f"You don't have the rights to write to {name}")

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.at(revision)
        if commit is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


_NAME = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create),
    ("POST", "/api/validate-yaml", Hub.validate),
    ("GET", f"/api/models/{_NAME}", Hub.info),
    ("GET", f"/api/models/{_NAME}/revision/(?P<revision>[^/]+)", Hub.info),
    ("GET", f"/api/models/{_NAME}/tree/(?P<revision>[^/]+)", Hub.tree),
    ("GET", f"/api/models/{_NAME}/discussions", Hub.discussions),
    ("POST", f"/api/models/{_NAME}/paths-info/(?P<revision>[^/]+)", Hub.paths_info),
    ("POST", f"/api/models/{_NAME}/preupload/(?P<revision>[^/]+)", Hub.preupload),
    ("POST", f"/api/models/{_NAME}/lfs-files/duplicate", Hub.duplicate),
    ("POST", f"/api/models/{_NAME}/commit/(?P<revision>[^/]+)", Hub.commit),
    ("POST", f"/api/models/{_NAME}/tag/(?P<revision>[^/]+)", Hub.tag),
    ("POST", f"/api/models/{_NAME}/branch/(?P<name>[^/]+)", Hub.branch),
    ("POST", f"/{_NAME}\\.git/info/lfs/objects/batch", Hub.batch),
    ("PUT", f"/lfs/{_NAME}/(?P<oid>[0-9a-f]+)", Hub.put),
    ("GET HEAD", f"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Hub.resolve),
)
