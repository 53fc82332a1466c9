"""Publishing a finished run: one commit with the model, its adapter, its card and its recipe, proven from outside."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil

from hftransfer import artifact
from hftransfer.card import report
from hftransfer.config import as_now, build
from hftransfer.errors import UserError
from hftransfer.hub import access, cards, exporting, verification
from hftransfer.hub.cards import CARD
from hftransfer.hub.connection import endpoint, require_online
from hftransfer.hub.retrying import answer_of, in_words, insist, may_pass
from hftransfer.runs import Run, called, find, read_json, require_artifact, write_text
from hftransfer.safety.pictures import holds_dicom

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

FILE = "published.json"
LARGE = 2**20  # bytes of a file whose upload is worth a line of its own
# what may lie in a folder of transformers' and is nobody's business: pickles, optimizer state, logs, hidden files
WITHHELD = re.compile(r"(^|/)(\.|training_args|optimizer|scheduler|rng_state|events\.jsonl)|\.(bin|pt|pth|pkl|log)$")
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")
SCANNED = (".json", ".yaml", ".md", ".txt", ".jinja")
OURS = (CARD, artifact.NOTES, artifact.RECIPE, "config.json", f"{artifact.ADAPTER}/adapter_config.json")

Content = Path | bytes
Say = Callable[..., object]


class NotVerified(Exception):
    """The repo stands, and answers otherwise than the model that was trained."""


@dataclass(frozen=True)
class Published:
    """What stands on the Hub now."""

    repo: str
    url: str
    commit: str
    verified: bool
    uploaded_files: int
    uploaded_bytes: int
    unchanged_files: int
    pull_request: str | None = None


def publish(
    run: Run | str | Path,
    repo: str,
    private: bool | None = None,
    create_pr: bool = False,
    verify: bool = True,
    license: str | None = None,
    say: Say | None = None,
    replace_card: bool = False,
    card: Path | None = None,
) -> Published:
    """Publish a run's artifact as `repo` and prove, from a fresh process, that it answers as the trained model does.

    `run` is a run, its name or its folder; `repo` is user/name; `license` an id of the Hub in place of the base's.
    Files that are there already are not sent again, so it can be repeated, also after a failure half way. A new repo
    is private as `private` says, else as the run's configuration does where that names a repo, else public; an
    existing one changes only when `private` is given. A card that was edited by hand stays, and the new one is put
    beside it, unless `replace_card`; `card` is a file of Markdown that stands in for the text of the card below its
    metadata. Events go to `say` (the run's own unless given). Raises UserError, NotVerified,
    or what the Hub's client raises; the event `unpublished` then says why.
    """
    run = run if isinstance(run, Run) else find(run)
    say = say or run.event
    try:
        say("publishing", repo=repo, stage="checking")
        if verify:
            verification.require_examples(run)
        exporting.add(run, repo, say)
        published = _publish(run, repo, private, create_pr, license, say, replace_card, card)
        if verify:
            _verify(run, published, say)
            published = Published(**{**asdict(published), "verified": True})
    except Exception as error:
        reason = str(error) if isinstance(error, UserError | NotVerified) else in_words(error)
        say("unpublished", repo=repo, message=reason, user_error=isinstance(error, UserError))
        raise
    write_text(run.folder / FILE, json.dumps(asdict(published), indent=1))
    say("published", **asdict(published))
    return published


@contextmanager
def leaving_at_once(run: Run, repo: str, say: Say | None = None) -> Iterator[None]:
    """End this process at the first SIGINT or SIGTERM, with a word: an upload's threads would go on for minutes.

    That loses nothing, since a commit is made at once or not at all, and what was sent before it is not sent again.
    """
    tell = say or run.event

    def leave(number: int, frame: FrameType | None) -> None:
        tell("unpublished", repo=repo, message="interrupted; publish again to go on", user_error=True)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(130)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def contents(run: Run, repo: str, license: str | None = None, card: Path | None = None) -> dict[str, Content]:
    """Return what a repo is to hold, by path in it: the artifact, its card written for `repo`, and the list of it all.

    `card` is a file whose text stands in for the card's, below its metadata. Raises UserError when the run has no
    artifact, or a file holds a token or a path of this machine.
    """
    if run.result().get("artifact", "") is None:
        require_artifact(run)
    if not (run.artifact / artifact.NOTES).is_file() or not run.result():
        raise UserError(
            "a finished run is needed to publish", f"{run.name} is {run.status().state} and has no model",
            f"Finish it first: hftransfer resume {run.name}",
        )  # fmt: skip
    files: dict[str, Content] = {}
    for path in sorted(p for p in run.artifact.rglob("*") if p.is_file()):
        name = path.relative_to(run.artifact).as_posix()
        if not WITHHELD.search(name):
            files[name] = path
    notes = artifact.read_notes(run.artifact)
    config = build(as_now(notes["config"]))
    license = license or run.config().hub.license
    refuse_records(files)
    result = {**run.result(), "onnx": artifact.onnx_of(run.artifact)}
    text = report.render(result, config, repo=repo, license=license)
    files[CARD] = (text if card is None else cards.with_body(text, cards.body_in(card))).encode()
    files[artifact.NOTES] = (json.dumps({**notes, "files": sorted(files)}, indent=1) + "\n").encode()
    refuse_secrets(run, files)
    return files


def refuse_records(files: Mapping[str, Content]) -> None:
    """Raise UserError where a file of medicine lies among those that are to be published: it names its patient."""
    for name, content in files.items():
        if isinstance(content, Path) and holds_dicom(content):
            raise UserError(
                "no file that names a patient may be published", f"{name} is or holds a DICOM file",
                "Take it out of the run's artifact: hftransfer puts none there.",
            )  # fmt: skip


def refuse_secrets(run: Run, files: Mapping[str, Content]) -> None:
    """Raise UserError when a text that is to be published holds a token, or a path of this machine."""
    token = os.environ.get("HF_TOKEN") or ""
    places = [f"{place}/" for place in {str(run.folder), str(Path.cwd()), str(Path.home())} if place != "/"]
    for name, content in files.items():
        if not name.endswith(SCANNED):
            continue
        text = (content if isinstance(content, bytes) else content.read_bytes()).decode(errors="replace")
        text = text.replace("\\", "")  # as a card escapes them
        if TOKEN.search(text) or (len(token) > 8 and token in text):
            raise UserError(
                "nothing secret may be published", f"{name} holds an access token",
                f"Revoke it at {endpoint()}/settings/tokens, take it out of configuration and data, and train again.",
            )  # fmt: skip
        found = next((place for place in places if place in text), None) if name in OURS else None
        if found:
            raise UserError(
                "nothing about this machine may be published", f"{name} holds a path below {found}",
                "Take it out of the configuration, or name the file relative to the working folder.",
            )  # fmt: skip


def _publish(
    run: Run,
    repo: str,
    private: bool | None,
    create_pr: bool,
    license: str | None,
    say: Say,
    replace_card: bool,
    card: Path | None,
) -> Published:
    require_online("publishing", f" and try again: hftransfer publish {called(run)} {repo}")
    from huggingface_hub import HfApi

    api = HfApi()
    notice = _teller(say, repo)
    identity = access.identify(api)
    full, exists = access.require_writable(api, identity, repo, create_pr)
    files = contents(run, full, license, card)
    try:
        if not exists:
            named = run.config().hub
            hidden = (named.repo is not None and named.private) if private is None else private
            insist(lambda: api.create_repo(full, private=hidden, exist_ok=True), notice)
        elif private is not None and not create_pr:
            insist(lambda: api.update_repo_settings(full, private=private), notice)
        return insist(lambda: _commit(api, full, files, create_pr, say, replace_card), notice)
    except ValueError as error:  # BadRequestError is one too
        if "nvalid metadata" not in str(error):
            raise
        raise UserError(
            "a card that the Hub accepts is needed", " ".join(str(error).split())[:300],
            "If it is about the licence, name one that the Hub knows: --license.",
        ) from error  # fmt: skip
    except Exception as error:
        refused = _refused(error, full)
        if refused is not None:
            raise refused from error
        if may_pass(error):
            raise _gave_up(run, full, error) from error
        raise


def _refused(error: Exception, repo: str) -> UserError | None:
    """Return the error of a Hub that refuses in the middle of publishing what it allowed before; None of another."""
    answer = answer_of(error)
    if answer is None:
        return None
    said, again = f"{in_words(answer)} in the middle of publishing", "publish again: what was sent is not sent twice."
    status = answer.response.status_code
    if status == 403 and "storage" in said.lower():  # the quota of an account or an organization
        return UserError(
            f"room on the Hub is needed for {repo}", said,
            f"Delete what you do not need there, or see {endpoint()}/settings/billing; then {again}",
        )  # fmt: skip
    if status in (401, 403):
        return UserError(
            f"a token that may write to {repo} is needed",
            said,
            f"{access.renewal()} Then {again}",
        )
    if status == 404:
        return UserError(f"{repo} must be on the Hub", said, f"If it was deleted or moved, {again}")
    return None


def _commit(
    api: HfApi, repo: str, files: Mapping[str, Content], create_pr: bool, say: Say, replace_card: bool
) -> Published:
    """Send what is not there yet and commit it at once; somebody else's commit meanwhile makes this begin anew."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    head = str(api.repo_info(repo).sha)
    earlier = _notes_of(repo, head)
    files, kept = cards.settled(api, repo, head, files, earlier, replace_card)
    if kept:
        message = f"{CARD} was edited by hand and stays; the new card is {cards.BESIDE} (--replace-card overwrites it)"
        say("notice", message=message)
    additions = [CommitOperationAdd(name, str(c) if isinstance(c, Path) else c) for name, c in files.items()]
    changed = _changed(api, repo, head, additions)
    stale = _stale(api, repo, head, {CARD, *files} if kept else set(files), earlier)
    sent = sum(addition.upload_info.size for addition in changed)
    if not changed and not stale:
        return Published(repo, f"{endpoint()}/{repo}", head, False, 0, 0, len(files))
    done = 0
    large = sorted((a for a in changed if a.upload_info.size >= LARGE), key=lambda a: a.upload_info.size)
    for addition in large:  # one by one, to tell how far it is; the commit sends the rest
        say("publishing", repo=repo, stage="uploading", done=done, total=sent, file=addition.path_in_repo)
        api.preupload_lfs_files(repo, [addition], create_pr=create_pr, free_memory=False)
        done += addition.upload_info.size
    say(
        "publishing",
        repo=repo,
        stage="uploading",
        done=done,
        total=sent,
        file=f"{len(changed) - len(large)} small files",
    )
    try:
        commit: CommitInfo = api.create_commit(
            repo,
            [*changed, *(CommitOperationDelete(name) for name in stale)],
            commit_message="Publish with hftransfer",
            create_pr=create_pr,
            parent_commit=head,
        )
    except HfHubHTTPError as error:
        if error.response.status_code != 412:
            raise
        raise ConnectionError(f"{repo} was changed by somebody else meanwhile") from error  # may pass: look again
    return Published(
        repo, commit.pr_url or f"{endpoint()}/{repo}", commit.oid, False, len(changed), sent,
        len(files) - len(changed), commit.pr_url,
    )  # fmt: skip


def _changed(api: HfApi, repo: str, head: str, additions: list[CommitOperationAdd]) -> list[CommitOperationAdd]:
    """Return the additions whose content the repo does not hold at that path."""
    remote = {info.path: info for info in api.get_paths_info(repo, [a.path_in_repo for a in additions], revision=head)}
    changed = []
    for addition in additions:
        there: Any = remote.get(addition.path_in_repo)
        if there is None:
            changed.append(addition)
        elif there.lfs is not None:
            if there.lfs.sha256 != addition.upload_info.sha256.hex():
                changed.append(addition)
        else:
            with addition.as_file() as file:
                content = file.read()
            if there.blob_id != cards.blob_of(content):
                changed.append(addition)
    return changed


def _notes_of(repo: str, head: str) -> dict[str, Any]:
    """Return the notes of the last publication; empty where hftransfer has published nothing yet."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return read_json(Path(hf_hub_download(repo, artifact.NOTES, revision=head)))
    except EntryNotFoundError:
        return {}


def _stale(api: HfApi, repo: str, head: str, files: set[str], earlier: Mapping[str, Any]) -> list[str]:
    """Return what an earlier publication put there and this one does not have; files that others added stay."""
    if not earlier:
        return []
    there = set(api.list_repo_files(repo, revision=head))
    return sorted({str(name) for name in earlier.get("files", [])} & there - files)


def _verify(run: Run, published: Published, say: Say) -> None:
    say("publishing", repo=published.repo, stage="verifying")
    differences = verification.differences(run, published.repo, published.commit)
    if differences:
        raise NotVerified(
            f"{published.url} was uploaded, but it does not answer as the trained model does: {'; '.join(differences)}"
        )


def _teller(say: Say, repo: str) -> Callable[[str], object]:
    return lambda message: say("publishing", repo=repo, stage="waiting", message=message)


def _gave_up(run: Run, repo: str, error: Exception) -> UserError:
    return UserError(
        f"the Hub must take the files of {repo}", f"several attempts failed, the last with: {in_words(error)}",
        f"The model is safe in {run.artifact}; try again later: hftransfer publish {called(run)} {repo}",
    )  # fmt: skip
