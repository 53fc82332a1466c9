#!/usr/bin/env bash
# Every figure of a GPU in docs/benchmarks.md, in less than ten minutes: benchmarks/gpu.sh [FILE] [--tiny] [--minutes N]
# Needs no network and no samples: weights are random, rows are made up. Each figure is a line of FILE as soon as it is
# known. Then, on any machine: python -m benchmarks.gpu --table FILE [--write]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
file=${1:-gpu.jsonl}
shift || true
exec timeout 590 "${PYTHON:-python3}" -m benchmarks.gpu --out "$file" "$@"
