"""How many processes a launcher was asked for, read from its command line."""

from __future__ import annotations

import pytest

from hftransfer import train


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--num_processes", "2"], 2),
        (["--num-processes=3"], 3),
        (["--config_file", "FILE"], 8),
        (["--config_file", "FILE", "--num_processes", "2"], 2),  # the flag overrules the file, wherever it stands
        (["--num_processes", "2", "--config_file", "FILE"], 2),
        ([], None),
    ],
)
def test_processes_asked_of_accelerate(monkeypatch, tmp_path, flags, expected):
    file = tmp_path / "accelerate.yaml"
    file.write_text("num_machines: 2\nnum_processes: 8\n")
    words = [
        "python",
        "-m",
        "accelerate.commands.launch",
        *(str(file) if w == "FILE" else w for w in flags),
        "train.py",
    ]

    class Parent:
        def __init__(self, pid: int) -> None: ...

        def cmdline(self) -> list[str]:
            return words

    monkeypatch.delenv("HFTRANSFER_PROCESSES", raising=False)
    monkeypatch.setattr(train.psutil, "Process", Parent)
    assert train.asked_processes() == expected
