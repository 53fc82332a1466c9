"""A Hugging Face Hub on loopback that tests talk to with unpatched clients: `with HubServer() as hub`."""

from __future__ import annotations

from tests.hub_server.faults import Fault, Fired
from tests.hub_server.log import Record
from tests.hub_server.server import HubServer
from tests.hub_server.store import Commit, Repo

__all__ = ["Commit", "Fault", "Fired", "HubServer", "Record", "Repo"]
