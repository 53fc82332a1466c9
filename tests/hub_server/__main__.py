"""Starts a Hub by hand: `python -m tests.hub_server --port 8000 [--folder DIR] [--xet]`."""

from __future__ import annotations

import argparse
import threading

from tests.hub_server import HubServer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", help="where content is kept (default: a temporary folder)")
    parser.add_argument("--xet", action="store_true", help="take uploads through Xet, as the real Hub does")
    options = parser.parse_args()
    with HubServer(options.folder, options.xet, port=options.port) as hub:
        print(f"export HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET={'0' if options.xet else '1'}")
        for user in hub.users:
            roles = [f"{org.members[user]} of {org.name}" for org in hub.orgs.values() if user in org.members]
            print(f"export HF_TOKEN={hub.token(user)}  # {', '.join([user, *roles])}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
