"""The settings that a published model was made with, read in a visitor's worker: fenced in, and up to a size."""

from __future__ import annotations

import json
from typing import Any

from hftransfer.config import as_now, build
from hftransfer.errors import UserError
from hftransfer.hub import connection
from hftransfer.hub.retrying import unavailable
from hftransfer.yaml_core import read_yaml

REFUSED = (401, 403, 404)  # what the Hub answers of a file that is not there, or not for whoever asks
MOST = 2**20  # bytes of hftransfer.json that are read, whatever its size


def settings(repo: str) -> dict[str, Any]:
    """Return the configuration of a model's hftransfer.json as a tree without defaults; UserError without one."""
    from httpx2 import HTTPError
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    wanted = "a model published by hftransfer is needed"
    if connection.is_offline():
        raise UserError("the Hugging Face Hub is needed", "it cannot be reached from here", "Paste the YAML instead.")
    read = bytearray()
    try:
        url, headers = hf_hub_url(repo, "hftransfer.json"), build_hf_headers(token=get_token() or False)
        with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as answer:
            hf_raise_for_status(answer)
            for part in answer.iter_bytes(2**16):
                read += part
                if len(read) > MOST:
                    raise UserError(wanted, f"the hftransfer.json of {repo!r} is larger than any of ours", "")
        config = dict(as_now(json.loads(read)["config"]))
    except (HfHubHTTPError, HFValidationError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code not in REFUSED:
            raise unavailable(error) from error
        raise UserError(wanted, f"{repo!r} has no hftransfer.json that you may read", "") from error
    except (HTTPError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(wanted, f"{repo!r}: {str(error)[:200]}", "") from error
    found: dict[str, Any] = read_yaml(build({k: v for k, v in config.items() if k not in ("output", "hub")}).to_yaml())
    found.pop("schema")
    return found  # what is a default is left out: the form shows only what was chosen
