"""The folder of a Space: complete, installable by its pins, and serving a guest and a signed-in user."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import psutil
import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import RSAKey

from hftransfer.ui import disk

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"


def test_a_space_installs_every_dependency_at_its_tested_version() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", line).group().lower().replace("_", "-") for line in wanted}  # type: ignore[union-attr]
    found = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "space" / "requirements.txt").read_text(), re.MULTILINE))

    assert {name.lower().replace("_", "-"): version for name, version in found.items()} == {n: pins[n] for n in names}


def test_the_front_matter_is_what_the_hub_takes() -> None:
    text = (ROOT / "space" / "README.md").read_text()
    matter = yaml.safe_load(text.split("---")[1])

    assert (matter["sdk"], matter["app_file"], matter["hf_oauth"]) == ("gradio", "spaces_app.py", True)
    assert f"gradio=={matter['sdk_version']}\n" in (ROOT / "constraints.txt").read_text()
    assert len(matter["short_description"]) <= 60
    assert matter["hf_oauth_scopes"] == ["contribute-repos", "gated-repos", "jobs"], "writes to no other repo"
    assert (ROOT / matter["app_file"]).is_file()


# --- a Space in a process of its own, and somebody who signs in: no Hub, so a stand-in says who they are ---

SUBS = {"alice": "64a1", "bob": "64b2"}


class SignIn(BaseHTTPRequestHandler):
    """An OpenID provider that believes the code it is given: `NAME.NONCE`."""

    key: ClassVar[Any] = RSAKey.generate_key(2048, private=True, auto_kid=True)
    who: ClassVar[str] = "alice"  # sits before the browser that comes to sign in

    def do_GET(self) -> None:
        host = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path.startswith("/oauth/authorize"):
            asked = parse_qs(urlsplit(self.path).query)
            self.send_response(302)
            back = f"code={self.who}.{asked['nonce'][0]}&state={quote(asked['state'][0])}"
            place = asked["redirect_uri"][0]
            self.send_header("location", f"{place}{'&' if '?' in place else '?'}{back}")
            self.end_headers()
        elif self.path.endswith("/openid-configuration"):
            self.answer({
                "issuer": host, "authorization_endpoint": f"{host}/oauth/authorize",
                "token_endpoint": f"{host}/oauth/token", "jwks_uri": f"{host}/jwks",
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
            })  # fmt: skip
        else:
            self.answer({"keys": [self.key.as_dict(private=False)]})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        name, _, nonce = form["code"][0].partition(".")
        claims = {
            "iss": f"http://127.0.0.1:{self.server.server_address[1]}", "aud": "client", "sub": SUBS[name],
            "nonce": nonce, "iat": int(time.time()), "exp": int(time.time()) + 600, "name": name,
            "preferred_username": name,
            "profile": f"https://huggingface.co/{name}", "picture": "",
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)
        self.answer({
            "access_token": f"hf_oauth_{name}_SecretToken", "token_type": "bearer", "expires_in": 600,
            "scope": "openid profile", "id_token": token,
        })  # fmt: skip

    def answer(self, content: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


def listing(config: dict[str, Any]) -> int:
    """Return the number of the call by which the page asks for one's own uploads when rows are to come from there."""
    (origin,) = [one["id"] for one in config["components"] if one["props"].get("label") == "Rows from"]
    called = [one for one in config["dependencies"] if [origin, "change"] in [list(to) for to in one["targets"]]]
    (index,) = [one["id"] for one in called if one["inputs"] == [origin]]
    return int(index)


@dataclass
class Browser:
    """Somebody's browser: the cookies it holds, and what it asks."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> httpx.Response:
        answer = httpx.get(self.url + path, headers=self.headers(), timeout=30)
        for name, value in SimpleCookie(answer.headers.get("set-cookie", "")).items():  # Secure: httpx would drop them
            self.cookies[name] = value.value
        return answer

    def headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), "origin": self.url}

    def sign_in(self, name: str) -> None:
        asked = parse_qs(urlsplit(self.get("/login/huggingface").headers["location"]).query)
        assert asked["scope"] == ["openid profile contribute-repos"]
        back = self.get(f"/login/callback?code={name}.{asked['nonce'][0]}&state={asked['state'][0]}")
        assert back.status_code < 400, back.text

    def files(self) -> str:
        """Return the part of the page that lists one's own uploads, as the page itself asks for it."""
        config = self.get("/config").json()
        index = listing(config)
        session = f"s{time.monotonic_ns()}"
        body = {"data": ["Upload"], "fn_index": index, "session_hash": session}
        httpx.post(f"{self.url}/gradio_api/queue/join", json=body, headers=self.headers()).raise_for_status()
        with httpx.stream(
            "GET", f"{self.url}/gradio_api/queue/data?session_hash={session}", headers=self.headers(), timeout=30
        ) as lines:
            for line in lines.iter_lines():
                if "process_completed" in line:
                    return line
        raise AssertionError("no answer")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve `make space`'s folder as the Hub would, with alice's and bob's files in its storage."""
    folder = tmp_path_factory.mktemp("space")
    subprocess.run(["make", "-s", "space"], cwd=ROOT, check=True)
    shutil.copytree(ROOT / "build" / "space", folder / "app")
    for name, number in SUBS.items():
        uploads = folder / "data" / "users" / f"{name}~{number}" / "uploads"
        uploads.mkdir(parents=True)
        (uploads / f"{name}-secret.csv").write_text("text,label\nsecret,1\n")
    provider = HTTPServer(("127.0.0.1", 0), SignIn)
    Thread(target=provider.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "SYSTEM": "spaces", "SPACE_ID": "owner/space", "HF_TOKEN": "hf_" + "OwnerSecretToken" * 3,
        "OAUTH_CLIENT_ID": "client", "OAUTH_CLIENT_SECRET": "oauth-secret",
        "OAUTH_SCOPES": "openid profile contribute-repos",
        "OPENID_PROVIDER_URL": f"http://127.0.0.1:{provider.server_port}", "HFTRANSFER_ROOT": str(folder / "data"),
        "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "received"),
        "HFTRANSFER_UPLOAD_MB": "20", "HFTRANSFER_RECEIVED_MB": "40",
    }  # fmt: skip
    app = subprocess.Popen(
        [sys.executable, "spaces_app.py"], cwd=folder / "app", env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    (folder / "pid").write_text(str(app.pid))
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            assert app.poll() is None and time.monotonic() < end, app.communicate(timeout=5)
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url, timeout=5).status_code == 200:
                    break
            time.sleep(0.2)
        yield url, folder
    finally:
        app.kill()
        said = app.communicate()[0]
        provider.shutdown()
    assert "SecretToken" not in said, said


def test_two_users_and_a_guest_see_what_is_theirs(served: tuple[str, Path]) -> None:
    url, _ = served
    alice, bob, guest = Browser(url), Browser(url), Browser(url)
    alice.sign_in("alice")
    bob.sign_in("bob")

    assert "alice-secret.csv" in alice.files() and "bob-secret" not in alice.files()
    assert "bob-secret.csv" in bob.files() and "alice-secret" not in bob.files()
    assert "Sign in" in guest.files() and "secret" not in guest.files()
    forged = Browser(url, {"session": bob.cookies["session"][:-3] + "AAA"})
    assert "secret" not in forged.files()
    alice.get("/logout")
    assert "secret" not in alice.files()


def test_nobody_is_signed_in_by_somebody_elses_link(served: tuple[str, Path]) -> None:
    """Mallory begins a sign-in and sends its last step, or a cookie of hers, to others."""
    url, _ = served
    mallory, alice, guest = Browser(url), Browser(url), Browser(url)
    asked = parse_qs(urlsplit(mallory.get("/login/huggingface").headers["location"]).query)
    link = f"/login/callback?code=bob.{asked['nonce'][0]}&state={asked['state'][0]}"
    alice.sign_in("alice")
    for other in (guest, alice):
        other.get(link)
        assert "bob-secret" not in other.files()
    assert "alice-secret.csv" in alice.files()

    planted = Browser(url, dict(mallory.cookies))
    planted.sign_in("alice")
    assert "alice-secret.csv" in planted.files()
    assert planted.cookies["session"] != mallory.cookies["session"]
    assert "alice-secret" not in mallory.files(), "what she planted does not become alice's"


def test_nobody_reads_or_fills_the_stream_of_answers_of_another(served: tuple[str, Path]) -> None:
    url, _ = served
    alice, bob, guest = Browser(url), Browser(url), Browser(url)
    alice.sign_in("alice")
    bob.sign_in("bob")
    body = {"data": [], "fn_index": 0, "session_hash": "of-alice"}

    def join(who: Browser, content: str) -> int:
        path = f"{url}/gradio_api/queue/join"
        headers = {**who.headers(), "content-type": "application/json"}
        return httpx.post(path, content=content, headers=headers, timeout=30).status_code

    assert join(alice, json.dumps(body)) != 403
    hidden = json.dumps(body).replace("session_hash", "session\\u005fhash")
    for other in (bob, guest):
        assert join(other, json.dumps(body)) == join(other, hidden) == 403
        stream = httpx.get(f"{url}/gradio_api/queue/data?session_hash=of-alice", headers=other.headers(), timeout=30)
        assert stream.status_code == 403


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium")
def test_two_users_sign_in_in_their_browsers(served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from playwright.sync_api import expect, sync_playwright

    url = served[0].replace("127.0.0.1", "localhost")  # where Chromium takes Secure cookies without TLS
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        chinese = browser.new_context().new_page()
        chinese.goto(f"{url}/?lang=zh")
        pages = {}
        for name in ("guest", *SUBS):
            monkeypatch.setattr(SignIn, "who", name)
            pages[name] = page = browser.new_context().new_page()
            page.goto(url)
            if name != "guest":
                page.get_by_role("button", name="Sign in with Hugging Face").click()
                expect(page.get_by_role("button", name=f"Logout ({name})")).to_be_visible(timeout=30_000)
            page.get_by_role("radio", name="Upload").click()
        chinese.get_by_role("button", name="Sign in with Hugging Face").click()  # long after Gradio set its words anew
        expect(chinese.get_by_role("button", name=f"Logout ({name})")).to_be_visible(timeout=30_000)
        for name, page in pages.items():
            own = "Sign in" if name == "guest" else f"{name}-secret.csv"
            expect(page.get_by_text(own).first).to_be_visible(timeout=30_000)
            for other in {*SUBS} - {name}:
                assert f"{other}-secret" not in page.content()
            assert "SecretToken" not in page.content()
        browser.close()


ATTACK = """async (app) => {
    const said = {}, session = "evil" + Math.random();
    const ask = async (name, path, options) => {
        try {
            const answer = await fetch(app + path, {credentials: "include", ...options});
            said[name] = answer.status + " " + (await answer.text()).slice(0, 2000);
        } catch (error) { said[name] = "blocked"; }
    };
    const form = new FormData(), body = JSON.stringify({data: ["Upload"], fn_index: INDEX, session_hash: session});
    form.append("files", new Blob(["text,label\\n"]), "evil.csv");
    const post = {method: "POST", body};
    await ask("config", "/config", {});
    await ask("join as JSON", "/gradio_api/queue/join", {...post, headers: {"content-type": "application/json"}});
    await ask("join as text", "/gradio_api/queue/join", post);
    await ask("data", "/gradio_api/queue/data?session_hash=" + session, {});
    await ask("upload", "/gradio_api/upload", {method: "POST", body: form});
    await ask("run", "/gradio_api/run/status", {...post, headers: {"content-type": "application/json"}});
    await ask("logout", "/logout", {mode: "no-cors"});
    const framed = document.createElement("iframe");
    framed.src = app + "/";
    document.body.append(framed);
    await new Promise((done) => { framed.onload = done; setTimeout(done, 5000); });
    return said;
}"""


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"{CHROMIUM} is missing: apt-get install chromium")
def test_another_site_cannot_act_as_who_is_signed_in(
    served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Chromium, with the session's cookie sent along: `SameSite=None`, as the frame on huggingface.co needs it."""
    from playwright.sync_api import expect, sync_playwright

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html><body>kittens")

        def log_message(self, *_: Any) -> None:
            pass

    url = served[0].replace("127.0.0.1", "localhost")
    before = set((served[1] / "received").rglob("*evil*"))
    evil = HTTPServer(("127.0.0.1", 0), Evil)
    Thread(target=evil.serve_forever, daemon=True).start()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        monkeypatch.setattr(SignIn, "who", "alice")
        page = browser.new_context().new_page()
        page.goto(url)
        page.get_by_role("button", name="Sign in with Hugging Face").click()
        expect(page.get_by_role("button", name="Logout (alice)")).to_be_visible(timeout=30_000)
        config = Browser(served[0]).get("/config").json()
        index = listing(config)
        for host in ("localhost", "127.0.0.1"):  # of the same site at another port, and of another site
            other, sent = page.context.new_page(), []
            other.on("request", lambda request, sent=sent: sent.append(request))
            other.goto(f"http://{host}:{evil.server_port}/")
            said = other.evaluate(ATTACK.replace("INDEX", str(index)), url)
            cookies = [request.all_headers().get("cookie", "") for request in sent]
            assert host != "localhost" or any("session=" in cookie for cookie in cookies), "the cookie was sent"
            assert len(said) == 7 and "alice" not in json.dumps(said)
            assert all(words.startswith(("403", "blocked", "0 ")) for words in said.values()), said
            assert all("hftransfer" not in frame.content() for frame in other.frames[1:])
        page.reload()  # nobody signed her out
        expect(page.get_by_role("button", name="Logout (alice)")).to_be_visible(timeout=30_000)
        browser.close()
    evil.shutdown()
    assert set((served[1] / "received").rglob("*evil*")) == before


def test_the_page_of_a_space_holds_no_secret_and_serves_no_file(served: tuple[str, Path]) -> None:
    url, folder = served
    alice = Browser(url)
    alice.sign_in("alice")
    for path in ("/", "/config", "/gradio_api/info", "/theme.css"):
        text = alice.get(path).text
        assert "SecretToken" not in text and "oauth-secret" not in text, path
    theirs = folder / "data" / "users" / "bob~64b2" / "uploads" / "bob-secret.csv"
    mine = folder / "data" / "users" / "alice~64a1" / "uploads" / "alice-secret.csv"
    for path in (theirs, mine, folder / "app" / "spaces_app.py", "/etc/passwd", "/proc/self/environ"):
        assert alice.get(f"/gradio_api/file={path}").status_code >= 400, path
    for path in ("/gradio_api/deep_link?session_hash=x", "/monitoring", "/gradio_api/runs", "/gradio_api/token",
                 "/gradio_api/proxy=https://x.hf.space/", "/gradio_api/stream/a/b/c/playlist.m3u8"):  # fmt: skip
        assert alice.get(path).status_code == 404, path
    for path in ("/gradio_api/component_server", "/gradio_api/process_recording", "/gradio_api/run-history/connect"):
        assert httpx.post(url + path, json={}, headers=alice.headers(), timeout=30).status_code == 404, path
    assert alice.get("/").headers["content-security-policy"] == "frame-ancestors 'self' https://huggingface.co"
    chosen = {"/start", "/status", "/stop", "/predict"}
    own = {"/_check_login_status"}  # of gradio's sign-in button: tells whoever asks whether they are signed in
    assert set(alice.get("/gradio_api/info").json()["named_endpoints"]) == chosen | own


def test_what_a_stranger_uploads_by_hand_is_not_handed_to_others(served: tuple[str, Path]) -> None:
    """Gradio's own upload route takes files from anyone: they land among received files, and nowhere else."""
    url, folder = served
    names = [
        "../../../data/users/bob~64b2/uploads/evil.csv",
        "..%2f..%2fevil.csv",
        "a/b.csv",
        "x" * 300 + ".csv",
        "a\nb.csv",
    ]
    for name in names:
        httpx.post(f"{url}/gradio_api/upload", files={"files": (name, b"text,label\n")}, timeout=30)
    page = b"<html><script>alert(1)</script>"
    for name in ("page.html", "page.svg", "page.xml", "page.js", "page.png.html"):
        (place,) = httpx.post(f"{url}/gradio_api/upload", files={"files": (name, page)}, timeout=30).json()
        answer = httpx.get(f"{url}/gradio_api/file={place}", timeout=30)
        assert answer.headers["content-type"] == "application/octet-stream", name
        assert answer.headers["content-disposition"].startswith("attachment")
        assert "sandbox" in answer.headers["content-security-policy"]
    found = set(folder.rglob("*evil*"))
    assert found and all(path.is_relative_to(folder / "received") for path in found)


def test_strangers_do_not_fill_the_disk_or_the_memory(served: tuple[str, Path]) -> None:
    url, folder = served
    alice, bob = Browser(url), Browser(url)
    alice.sign_in("alice")
    bob.sign_in("bob")
    large = {"files": ("large.csv", bytes(12 * 2**20))}

    def upload(headers: dict[str, str], files: Any) -> int:
        try:
            return httpx.post(f"{url}/gradio_api/upload", files=files, headers=headers, timeout=60).status_code
        except httpx.TransportError:
            return 0  # it hung up

    assert upload({}, {"files": ("small.csv", b"a,b\n")}) == 200
    assert upload({}, large) == 413
    assert upload({"authorization": "Bearer hf_anything"}, large) == 413
    assert upload(alice.headers(), large) == 200
    assert upload(alice.headers(), {"files": ("larger.csv", bytes(22 * 2**20))}) == 413
    assert upload(alice.headers(), {"files": ("2.csv", b"2" * 12 * 2**20)}) == 507, "a half of it is the most"
    assert upload(bob.headers(), {"files": ("3.csv", b"3" * 12 * 2**20)}) == 200
    many = [("files", (f"{i}.csv", b"%d" % i)) for i in range(900)]
    assert upload({}, many) not in (200, 413), "a guest's small files count as places on the disk"
    assert len(list((folder / "received").rglob("*"))) < 11 * 2**20 / disk.INODE
    upload({}, {"files": ("photo.png", bytes(9 * 2**20))})
    assert upload({}, {"files": ("other.png", bytes(9 * 2**20))}) == 507, "guests have used up theirs"
    assert httpx.get(url).status_code == 200
    assert disk.used_mb(folder / "received") < 40


def test_a_guest_does_not_fill_the_memory(served: tuple[str, Path]) -> None:
    url, folder = served
    app = psutil.Process(int((folder / "pid").read_text()))
    join = f"{url}/gradio_api/queue/join"
    before = app.memory_info().rss

    def status(content: Any) -> int:
        try:
            return httpx.post(join, content=content, timeout=60).status_code
        except httpx.TransportError:
            return 0

    objects = b'{"data": [' + b"{}," * 4_500_000 + b'{}], "fn_index": 0, "session_hash": "x"}'
    assert status(objects) == 413
    assert status(b" " * 40 * 2**20) == 413
    assert status(b'{"data": ' + b"[" * 10_000 + b"]" * 10_000 + b"}") == 413
    picture = b'{"data": ["' + b"A" * 14 * 2**20 + b'"], "fn_index": 99999, "session_hash": "x"}'
    answers = [status(picture) for _ in range(5)]
    assert 429 in answers and answers[0] not in (0, 413, 429), "so much of all guests in a minute"

    def unsaid() -> Iterator[bytes]:
        yield from [b"x" * 2**20] * 40

    assert status(unsaid()) in (0, 413, 429)
    small = {"data": [], "fn_index": 99999, "session_hash": "x"}
    assert httpx.post(join, json=small, timeout=60).status_code not in (413, 429), "a click is never too much"
    assert app.memory_info().rss - before < 200 * 2**20
