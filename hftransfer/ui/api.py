"""The endpoints for programs (gradio_client, MCP): start, status, stop, predict; same visitors, rules and limits."""

from __future__ import annotations

from hftransfer.ui.queueing import Queue
from hftransfer.ui.settings import Settings
from hftransfer.ui.workers import Workers


def add(settings: Settings, queue: Queue, workers: Workers) -> None:
    """Declare the endpoints inside an open gr.Blocks; everything else there is api_visibility="private"."""
    raise NotImplementedError


def mcp_wanted(settings: Settings) -> bool:
    """Tell whether HFTRANSFER_MCP=1 asks for MCP and gradio's extra for it is installed: launch(mcp_server=...)."""
    raise NotImplementedError
