"""Two visitors of one Space: real processes behind the fence, and nothing of one in reach of the other."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hftransfer import fence
from hftransfer.errors import UserError
from hftransfer.ui import publish_step, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers
from tests.app.conftest import ALICE_TOKEN, BOB_TOKEN, OWNER_TOKEN, Finished
from tests.hub_server import HubServer

KERNEL = pytest.mark.skipif(
    not fence.version(), reason="this kernel has no Landlock: docs/space.md says what then holds"
)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Return what alice wants: bob's files, a process with his token, and a server inside the machine."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "rows.csv").write_text("text,label\nsecret,1\n")
    Image.new("RGB", (9, 9), "blue").save(folder / "photo.png")
    worker = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(300)"], env={"HF_TOKEN": BOB_TOKEN, "PATH": os.environ["PATH"]}
    )
    hits: list[str] = []

    class Inside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Inside)
    Thread(target=server.serve_forever, daemon=True).start()
    yield {"folder": folder, "pid": worker.pid, "port": server.server_port, "hits": hits}
    worker.kill()
    worker.wait()
    server.shutdown()


def inside(visitor: Visitor, settings: Settings, code: str, kernel: bool = True) -> str:
    """Run code in a process of the visitor's, behind their fence; return what it printed."""
    close = "from hftransfer import fence; held = fence.close()"
    if not kernel:
        close = f"from hftransfer import fence; fence.version = lambda: 0; {close.partition('; ')[2]}"
    done = subprocess.run(
        [sys.executable, "-c", f"{close}\n{textwrap.dedent(code)}"], env=visitors.environment(visitor, settings),
        cwd=visitor.folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


ATTEMPTS = {
    "a file": "open({folder!r} + '/rows.csv').read()",
    "a file by its descriptor's path": "os.open({folder!r} + '/rows.csv', os.O_RDONLY)",
    "a folder": "os.listdir({folder!r})",
    "a folder scanned": "list(os.scandir({folder!r}))",
    "a detour": "open('../../../' + os.path.relpath({folder!r} + '/rows.csv', '/'))",
    "a link of one's own": "os.symlink({folder!r} + '/rows.csv', 'link.csv'), open('link.csv')",
    "a hard link": "os.link({folder!r} + '/rows.csv', 'hard.csv')",
    "a file to write": "open({folder!r} + '/new.csv', 'w')",
    "a file to remove": "os.remove({folder!r} + '/rows.csv')",
    "a file to rename": "os.rename({folder!r} + '/rows.csv', 'mine.csv')",
    "a folder to make": "os.mkdir({folder!r} + '/new')",
    "a program's environment": "open('/proc/{pid}/environ').read()",
    "a program's memory": "open('/proc/{pid}/mem', 'rb')",
    "a program's root": "os.listdir('/proc/{pid}/root' + {folder!r})",
    "the app's own source folder": "open({checkout!r} + '/pyproject.toml')",
    "a server of the machine": "socket.create_connection(('127.0.0.1', {port}), 2)",
    "a server of the machine by its name": "socket.create_connection(('localhost', {port}), 2)",
    "the cloud's metadata": "socket.create_connection(('169.254.169.254', 80), 2)",
    "a private network": "socket.create_connection(('10.0.0.1', 80), 2)",
}
NATIVE = {
    "native code that opens": "refuse(ctypes.CDLL(None).open(({folder!r} + '/rows.csv').encode(), 0))",
    "Arrow that maps": "__import__('pyarrow').memory_map({folder!r} + '/rows.csv')",
    "a program that reads": "subprocess.run(['cat', {folder!r} + '/rows.csv'], check=True)",
    "a signal to another's process": "os.kill({pid}, 0)",
    "a debugger on another's process": "refuse(ctypes.CDLL(None).ptrace(16, {pid}, 0, 0))",
}


def attempt(what: str, secrets: dict[str, Any]) -> str:
    checkout = str(Path(fence.__file__).parents[1])
    line = what.format(**{**secrets, "folder": str(secrets["folder"]), "checkout": checkout})
    return f"""
        import ctypes, os, socket, subprocess
        def refuse(answer):
            if answer < 0:
                raise PermissionError
        try:
            {line}
        except (OSError, subprocess.CalledProcessError) as error:
            print("refused", type(error).__name__)
        else:
            print("REACHED")
    """


@pytest.mark.parametrize("held", [pytest.param("kernel", marks=KERNEL), "python"])
@pytest.mark.parametrize("what", ATTEMPTS)
def test_nothing_of_others_is_in_reach(
    what: str, held: str, secrets: dict[str, Any], space: Settings, alice: Visitor
) -> None:
    if what == "the app's own source folder" and space.root.is_relative_to(Path(fence.__file__).parents[1]):
        pytest.skip("the tests' folder lies in the checkout")
    said = inside(alice, space, attempt(ATTEMPTS[what], secrets), kernel=held == "kernel")
    assert said.startswith("refused"), said
    assert not secrets["hits"]


@KERNEL
@pytest.mark.parametrize("what", NATIVE)
def test_the_kernel_also_holds_what_python_does_not_see(
    what: str, secrets: dict[str, Any], space: Settings, alice: Visitor
) -> None:
    said = inside(alice, space, attempt(NATIVE[what], secrets))
    assert "refused" in said and "REACHED" not in said, said


@pytest.mark.parametrize("held", [pytest.param("kernel", marks=KERNEL), "python"])
def test_what_is_ones_own_is_in_reach(held: str, space: Settings, alice: Visitor) -> None:
    said = inside(
        alice, space,
        """
        import os, resource, ssl, tempfile
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        open("mine.txt", "w").write("a")
        os.rename("mine.txt", "still.txt")
        tempfile.NamedTemporaryFile().close()
        import numpy
        open("/dev/null", "w").write("x")
        print(held, open("still.txt").read(), sorted(os.listdir("."))[:1], len(os.urandom(3)))
        """,
        kernel=held == "kernel",
    )  # fmt: skip
    assert said == f"{held} a ['cache'] 3\n", said


def test_the_hub_that_the_operator_named_is_in_reach(
    secrets: dict[str, Any], space: Settings, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://localhost:{secrets['port']}")
    said = inside(
        alice, space, f"import socket; socket.create_connection(('localhost', {secrets['port']}), 2); print('there')"
    )
    assert said == "there\n", said


# --- through the real thing ---


def test_a_finished_run_holds_no_token_and_ran_behind_the_fence(finished: Finished) -> None:
    root = finished.settings.root
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            for token in (ALICE_TOKEN, BOB_TOKEN, OWNER_TOKEN):
                assert token.encode() not in content, path
    assert "hf_" not in json.dumps(finished.run.launch()) + json.dumps(finished.run.events()[0])
    assert {path.name for path in root.iterdir()} == {"users", ".queue"}
    assert [path.name for path in (root / "users").iterdir()] == [finished.visitor.folder.name]


def test_pictures_named_by_path_in_ones_own_data_show_nothing_of_others(
    finished: Finished, secrets: dict[str, Any]
) -> None:
    """The upload's inspection refuses such a table; a data set of the Hub comes in without one."""
    own, photo = finished.visitor.uploads, str(secrets["folder"] / "photo.png")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array(
        [{"bytes": None, "path": photo}, {"bytes": None, "path": f"http://127.0.0.1:{secrets['port']}/a.png"}] * 6,
        kind,
    )
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}}}
    table = pa.table({"image": rows, "label": ["a", "b"] * 6}).replace_schema_metadata(
        {"huggingface": json.dumps(features)}
    )
    pq.write_table(table, own / "paths.parquet")
    (own / "names.csv").write_text("image,label\n" + f"{photo},a\n../../{photo},b\n" * 6)
    opened = Workers(finished.settings)
    for source in ("paths.parquet", "names.csv"):
        tree = {"task": "image-classification", "data": {"source": source}}
        seen = opened.call(finished.visitor, "preview", tree=tree)
        assert all(row["image"]["kind"] != "image" for row in seen["rows"])
        assert seen["problem"], "none of the rows can be used"
    assert not secrets["hits"]
    opened.close()


def test_what_one_visitor_downloaded_no_other_may_read(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alice's private rows and model come to her and to nobody after her; her public model comes to everybody."""
    settings = finished.settings
    model = {path.name: path.read_bytes() for path in finished.run.artifact.iterdir() if path.is_file()}
    with HubServer() as hub:
        for name, value in hub.env().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", hub.token("carol"))  # whose Space it is
        hub.create_repo("alice/rows", "dataset", private=True, files={"train.csv": tiny_rows()})
        hub.create_repo("alice/hidden", private=True, files=model)
        hub.create_repo("alice/open", files=model)
        hub.create_repo("alice/large", files={**model, "large.safetensors": bytes(2 * 2**20)})
        alice = visitors.user(settings, "alice", hub.token("alice"), "64a1")
        bob = visitors.user(settings, "bob", hub.token("bob"), "64b2")
        opened = Workers(dataclasses.replace(settings, model_mb=1))
        rows = {"task": "text-classification", "data": {"source": "alice/rows"}}

        assert opened.call(alice, "preview", tree=rows)["rows"][0]["text"]["value"] == "a good film"
        for where in ("alice/hidden", "alice/open"):
            assert opened.call(alice, "predict", where=where, inputs=["a good film"], top_k=1)[0]["label"]
        with pytest.raises(UserError):
            opened.call(bob, "preview", tree=rows)
        with pytest.raises(UserError):
            opened.call(bob, "predict", where="alice/hidden", inputs=["a good film"], top_k=1)
        assert opened.call(bob, "predict", where="alice/open", inputs=["a good film"], top_k=1)[0]["label"]
        with pytest.raises(UserError, match="at most 1 MB"):
            opened.call(bob, "predict", where="alice/large", inputs=["a good film"], top_k=1)
        opened.close()
        assert {record.user for record in hub.requests} <= {"alice", "bob", None}, "never the owner's token"


def test_a_push_is_made_and_proved_with_the_visitors_token_alone(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer() as hub:
        for name, value in hub.env().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", hub.token("carol"))  # whose Space it is
        alice = visitors.user(finished.settings, "alice", hub.token("alice"), "64a1")
        for token, ending in ((hub.token("alice", "read"), "unpublished"), (hub.token("alice"), "published")):
            visitor = dataclasses.replace(alice, token=token)
            publish_step.start(finished.settings, visitor, finished.run, "alice/new", "", True, False).wait(120)
            end = time.monotonic() + 10
            while (last := finished.run.events()[0][-1])["type"] != ending and time.monotonic() < end:
                time.sleep(0.05)
            assert last["type"] == ending, last
        assert last["verified"] and last["url"].endswith("/alice/new")
        assert {record.user for record in hub.requests} <= {"alice", None}, "never the owner's token"
        tokens = [known.value.encode() for known in hub.store.tokens.values()]
    for path in finished.settings.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not [token for token in tokens if token in content], path


def tiny_rows() -> str:
    return "text,label\n" + "a good film,good\na bad film,bad\n" * 20


def test_no_module_of_the_app_brings_a_heavy_library_into_its_process() -> None:
    code = """
        import sys
        from hftransfer.ui import inspection, queueing, rules, settings, uploads, visitors, workers
        from hftransfer.launchers import launcher
        launcher("local")
        heavy = {"torch", "transformers", "datasets", "peft", "accelerate", "evaluate", "sklearn", "pandas"}
        print(sorted(heavy & set(sys.modules)))
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(fence.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n", done.stderr


def test_the_launched_command_names_no_secret(finished: Finished) -> None:
    words = finished.run.launch()["command"]
    assert not [word for word in words if "hf_" in word or "Secret" in word]
    with pytest.raises(UserError):
        visitors.find(visitors.user(finished.settings, "bob", BOB_TOKEN, "64b2"), finished.run.name)
