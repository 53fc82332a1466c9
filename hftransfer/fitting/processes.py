"""One process or many: who writes, who waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hftransfer.errors import UserError


def is_main_process() -> bool:
    """Tell whether this process writes the run's files."""
    return bool(PartialState().is_main_process)


def wait_for_everyone() -> None:
    """Wait until every process of the run has come here."""
    PartialState().wait_for_everyone()


def leave() -> None:
    """Part from the other processes of the run: NCCL warns of those that just go."""
    PartialState().destroy_process_group()


def agreed(find: Callable[[], Any]) -> Any:
    """Return what the main process finds, on every process: the Hub may answer two of them differently."""
    if PartialState().num_processes == 1:
        return find()
    found: list[Any] = [None]
    if is_main_process():
        try:
            found = [find()]
        except UserError as error:
            found = [error]  # the others would wait for ever
    answer = broadcast_object_list(found)[0]
    if isinstance(answer, UserError):
        raise answer
    return answer
