"""The process in which publishing exports a run's model: python -m hftransfer.export FOLDER"""

from __future__ import annotations

import sys
from pathlib import Path

from hftransfer import imports
from hftransfer.errors import UserError
from hftransfer.runs import Run


def main(arguments: list[str]) -> int:
    """Export the model of a run's folder to ONNX; what cannot be is one message and exit code 2."""
    with imports.uncollected():
        from hftransfer.export import onnx
    try:
        onnx.export(Run(Path(arguments[0])))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
