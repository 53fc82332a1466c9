"""Two visitors of one Space: real processes behind the fence, and nothing of one in reach of the other."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
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

from hftransfer.errors import UserError
from hftransfer.safety import calls, fence
from hftransfer.ui import publish_step, visitors
from hftransfer.ui.settings import Settings
from hftransfer.ui.visitors import Visitor
from hftransfer.ui.workers import Workers
from tests.app.conftest import ALICE_TOKEN, BOB_TOKEN, OWNER_TOKEN, Finished
from tests.hub_server import HubServer


def child(code: str) -> str:
    """Return the line that runs code in a program of its own, which has none of Python's hooks."""
    return f"subprocess.run([sys.executable, '-S', '-c', {'import socket; ' + code!r}], check=True, stderr=-3)"


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

    servers = [HTTPServer(("127.0.0.1", 0), Inside) for _ in range(2)]
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    abstract = f"hftransfer-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as at_path, socket.socket(socket.AF_UNIX) as by_name:
        at_path.bind(str(folder / "socket"))
        by_name.bind(f"\0{abstract}")
        at_path.listen(64)
        by_name.listen(64)
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as shared:
            yield {
                "folder": folder, "pid": worker.pid, "port": servers[0].server_port, "hits": hits,
                "hub_port": servers[1].server_port, "shared": shared.name, "abstract": abstract,
            }  # fmt: skip
    worker.kill()
    worker.wait()
    for server in servers:
        server.shutdown()


def inside(visitor: Visitor, settings: Settings, code: str, kernel: bool = True, sockets: str = "all") -> str:
    """Run code in a process of the visitor's, behind their fence; return what it printed."""
    lines = ["from hftransfer.safety import fence", f"held = fence.close(sockets={sockets!r})", textwrap.dedent(code)]
    if not kernel:
        lines.insert(1, "fence.version = lambda: 0")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=visitors.environment(visitor, settings),
        cwd=visitor.folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.stdout + done.stderr


# The rows of the table in docs/space.md, as code: what it says is tried below.
ATTEMPTS = {
    "a file or folder of others: opened, listed, linked, made, removed, renamed": [
        "open({folder!r} + '/rows.csv').read()",
        "os.open({folder!r} + '/rows.csv', os.O_RDONLY)",
        "os.listdir({folder!r})",
        "list(os.scandir({folder!r}))",
        "open('../../../' + os.path.relpath({folder!r} + '/rows.csv', '/'))",
        "os.symlink({folder!r} + '/rows.csv', 'link.csv'), open('link.csv')",
        "os.link({folder!r} + '/rows.csv', 'hard.csv')",
        "open({folder!r} + '/new.csv', 'w')",
        "os.remove({folder!r} + '/rows.csv')",
        "os.rename({folder!r} + '/rows.csv', 'mine.csv')",
        "os.mkdir({folder!r} + '/new')",
    ],
    "the app's own source folder": ["open({checkout!r} + '/pyproject.toml')"],
    "a link among one's own runs and uploads, for others to follow": [
        "os.symlink({folder!r} + '/rows.csv', 'uploads/link.csv')",
        "os.symlink({folder!r}, 'runs.new'), os.rename('runs.new', 'runs')",
        "os.symlink({folder!r} + '/rows.csv', 'cache/link.csv'), os.rename('cache/link.csv', 'uploads/link.csv')",
    ],
    "a pipe there, which holds up whoever opens it": ["os.mkfifo('uploads/pipe.csv')"],
    "a file of others, by native code or a program it starts": [
        "refuse(ctypes.CDLL(None).open(({folder!r} + '/rows.csv').encode(), 0))",
        "__import__('pyarrow').memory_map({folder!r} + '/rows.csv')",
        "subprocess.run(['cat', {folder!r} + '/rows.csv'], check=True)",
    ],
    "environment, memory and root of another process": [
        "open('/proc/{pid}/environ').read()",
        "open('/proc/{pid}/mem', 'rb')",
        "os.listdir('/proc/{pid}/root' + {folder!r})",
    ],
    "a debugger on another process": [
        "refuse(ctypes.CDLL(None).ptrace(16, {pid}, 0, 0))",
        "refuse(ctypes.CDLL(None).process_vm_readv({pid}, 0, 0, 0, 0, 0))",
    ],
    "a signal to another process": ["os.kill({pid}, 0)"],
    "limits and priority of another process": [
        "resource.prlimit({pid}, resource.RLIMIT_NOFILE, (99, 99))",
        "os.setpriority(os.PRIO_PROCESS, {pid}, 19)",
    ],
    "on which processors another process runs": ["os.sched_setaffinity({pid}, os.sched_getaffinity({pid}))"],
    "names and command lines of other processes": ["open('/proc/{pid}/cmdline').read()"],
    "tensors that others keep in /dev/shm": ["open({shared!r}).read()"],
    "a server of this machine, a private network, the cloud's metadata": [
        "socket.create_connection(('127.0.0.1', {port}), 2)",
        "socket.create_connection(('localhost', {port}), 2)",
        "socket.create_connection(('169.254.169.254', 80), 2)",
        "socket.create_connection(('10.0.0.1', 443), 2)",
        "socket.create_connection(('127.0.0.1', {hub_port}), 2)",
    ],
    "the same by native code or a program it starts": [child("socket.create_connection(('127.0.0.1', {port}), 2)")],
    "the same on port 443, 53 or the Hub's": [child("socket.create_connection(('127.0.0.1', {hub_port}), 2)")],
    "a server of its own": ["socket.create_server(('0.0.0.0', 0))"],
    "a datagram to them": ["socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))"],
    "a datagram by a program it starts": [
        child("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))")
    ],
    "TCP by another name (MPTCP), raw packets, other kinds of sockets": [
        child("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)"),
        child("socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)"),
        child("socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)"),
        child("socket.socket(40, socket.SOCK_STREAM, 0)"),
    ],
    "a Unix socket by its path": ["socket.socket(socket.AF_UNIX).connect({folder!r} + '/socket')"],
    "a Unix socket by its path, from a program it starts": [
        child("socket.socket(socket.AF_UNIX).connect({folder!r} + '/socket')")
    ],
    "a Unix socket by a name that is no file": ["socket.socket(socket.AF_UNIX).connect('\\0' + {abstract!r})"],
    "keys of the machine's keyring, io_uring, programs in the kernel": [
        "refuse(ctypes.CDLL(None).syscall({keyctl}, 0, -3, 0))",
        "refuse(ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120)))",
        "refuse(ctypes.CDLL(None).syscall({bpf}, 0, ctypes.create_string_buffer(72), 72))",
    ],
}
# the columns of the table, as a process
PROCESSES: dict[str, dict[str, Any]] = {
    "trainer": {},
    "worker": {"sockets": "internet"},
    "inspection": {"sockets": "none"},
    "trainer without Landlock": {"kernel": False},
}


def table() -> dict[str, dict[str, str]]:
    """Return what docs/space.md says of each attempt, by process."""
    text = (Path(__file__).parents[2] / "docs" / "space.md").read_text()
    lines = text.partition("<!-- fence -->")[2].partition("<!-- /fence -->")[0].strip().splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def test_the_table_of_the_fence_is_tried_whole() -> None:
    found = table()
    assert list(found) == list(ATTEMPTS)
    assert all(list(row) == list(PROCESSES) and set(row.values()) <= {"refused", "possible"} for row in found.values())


@pytest.mark.parametrize("process", [pytest.param(one, marks=() if "without" in one else KERNEL) for one in PROCESSES])
def test_the_fence_holds_what_its_table_says_and_no_more(
    process: str, secrets: dict[str, Any], space: Settings, alice: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://hub.invalid:{secrets['hub_port']}")
    numbers = calls._MACHINES[platform.machine()][1]
    places = {
        **{name: str(value) if isinstance(value, Path) else value for name, value in secrets.items()},
        "checkout": str(Path(fence.__file__).parents[2]), "keyctl": numbers["keyctl"], "bpf": numbers["bpf"],
    }  # fmt: skip
    tries = {what: [line.format(**places) for line in lines] for what, lines in ATTEMPTS.items()}
    if space.root.is_relative_to(Path(fence.__file__).parents[2]):  # the tests' folder lies in the checkout
        tries["the app's own source folder"] = ["raise PermissionError"]
    said = inside(alice, space, f"tries = {json.dumps(tries)}" + TRYING, **PROCESSES[process])
    (found,) = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert "without" in process or all(len(set(said)) == 1 for said in found.values()), found
    assert {what: max(said, key=["refused", "possible"].index) for what, said in found.items()} == {
        what: row[process] for what, row in table().items()
    }
    assert not secrets["hits"]


TRYING = """
import ctypes, json, os, resource, socket, subprocess, sys
def refuse(answer):
    if answer < 0:
        raise PermissionError
found = {}
for what, lines in tries.items():
    found[what] = []
    for line in lines:
        try:
            exec(line)
        except (OSError, subprocess.CalledProcessError) as error:
            found[what].append("refused")
        else:
            found[what].append("possible")
print(json.dumps(found), flush=True)
"""


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
        assert all(row["image"]["form"] != "picture" for row in seen["rows"])
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


def test_what_a_guest_names_on_the_hub_fills_neither_disk_nor_memory(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(finished.settings, model_mb=1)
    guest = visitors.guest(settings)
    model = {path.name: path.read_bytes() for path in finished.run.artifact.iterdir() if path.is_file()}
    notes = json.loads(model["hftransfer.json"])
    with HubServer() as hub:
        for name, value in hub.env().items():
            monkeypatch.setenv(name, value)
        hub.create_repo("alice/open", files=model)
        hub.create_repo("alice/hidden", private=True, files=model)
        hub.create_repo("alice/large", files={"hftransfer.json": b" " * 3 * 2**20 + model["hftransfer.json"]})
        hub.create_repo("alice/deep", files={"hftransfer.json": b'{"config":' + b"[" * 100_000})
        hub.create_repo("alice/words", files={**model, "tokenizer.json": b" " * 3 * 2**20 + model["tokenizer.json"]})
        opened = Workers(settings)
        assert opened.call(guest, "settings", repo="alice/open")["task"] == notes["task"]
        for repo, words in {
            "alice/hidden": "you may read", "alice/none": "you may read", "alice/large": "larger than any",
            "alice/deep": "published by hftransfer", "../alice": "found", "http://10.0.0.1/x": "found",
            str(finished.run.folder): "found",
        }.items():  # fmt: skip
            with pytest.raises(UserError, match=words):
                opened.call(guest, "settings", repo=repo)
        with pytest.raises(UserError):
            opened.call(guest, "model", model="alice/words", task="text-classification")
        opened.close()
        assert {record.user for record in hub.requests} == {None}
    kept = [path.stat().st_size for path in guest.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert max(kept, default=0) <= 2**20


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
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "[]\n", done.stderr


def test_the_launched_command_names_no_secret(finished: Finished) -> None:
    words = finished.run.launch()["command"]
    assert not [word for word in words if "hf_" in word or "Secret" in word]
    with pytest.raises(UserError):
        visitors.find(visitors.user(finished.settings, "bob", BOB_TOKEN, "64b2"), finished.run.name)
