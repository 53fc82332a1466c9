"""Start one trainer and wait for it, as `accelerate launch` does for a single process.

Run as a file, with the standard library alone: accelerate's own launcher imports torch before it starts the trainer,
seconds of every run, and holds that memory for as long as the run lasts.
"""

import os
import signal
import subprocess
import sys

# what accelerate's launcher sets for one process that is told neither a precision nor a compiler
ENVIRONMENT = {
    "ACCELERATE_USE_CPU": "False",
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
    "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False",
}


def main(words: list[str]) -> int:
    """Run `python words`; say which signal ended it, return its exit code (128 and more: a signal)."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    # it watches this process, and stops in good order when it is gone
    child = subprocess.Popen([sys.executable, *words], env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": threads})
    code = child.wait()
    if code < 0:
        print(f"the trainer was ended by {signal.Signals(-code).name}", file=sys.stderr)
        return 128 - code
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
