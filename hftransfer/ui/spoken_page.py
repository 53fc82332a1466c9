"""The page in the language of who opens it: marks become words on the way out, and the browser is told which it is."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request

from hftransfer.ui import saying
from hftransfer.ui.saying import say

Message = MutableMapping[str, Any]
PAGES = ("/", "/config", "/gradio_api/config")
HEAD = re.compile(r"<head>")


class Spoken:
    """ASGI middleware: `launch(app_kwargs={"middleware": [..., Middleware(Spoken)]})`."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Callable[[], Any], send: Callable[..., Awaitable[None]]) -> None:
        """Send the page with its marks told in the language that its reader asks for."""
        if scope["type"] != "http" or scope["method"] != "GET" or "/" + scope["path"].strip("/") not in PAGES:
            await self.app(scope, receive, send)
            return
        language = saying.of_request(Request(scope))
        begun: Message = {}
        body = bytearray()

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            whole = page_in(body.decode("utf-8"), language).encode()
            headers = [(name, value) for name, value in begun["headers"] if name.lower() != b"content-length"]
            more = [(b"content-length", str(len(whole)).encode()), (b"vary", b"accept-language")]
            await send({**begun, "headers": [*headers, *more]})
            await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, told)


def page_in(body: str, language: str) -> str:
    """Return a page, or its configuration, in a language."""
    tag = saying.TAGS.get(language, language)
    with saying.spoken(language):
        head = f"<head><script>{script(tag)}</script>"
    found = HEAD.sub(lambda _: head, body, count=1)
    return saying.unmarked(found.replace('lang="en"', f'lang="{tag}"', 1), language)


def script(tag: str) -> str:
    """Return the line that tells the page's script its words, and gradio's own words which language they are."""
    words = {
        "tag": tag,
        "gone": say("The app does not answer at the moment. Runs go on; this page will find them again."),
        "large": say("That is more than fits one upload here: bring it as a path, or from the Hub."),
        "copied": say("Copied"),
        "refused": say("Not yet"),
        "delete": say("Delete {name}?", name="NAME"),
    }
    told = json.dumps(words, ensure_ascii=False).replace("<", "\\u003c")
    return f"window.hftransferWords={told};" + (
        f'Object.defineProperty(navigator,"language",{{get:()=>{json.dumps(tag)}}});'
    )
