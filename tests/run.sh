#!/usr/bin/env bash
# Sets everything up, then lint and tests.
#
#   bash tests/run.sh            everything but the slow tests
#   bash tests/run.sh --slow     everything
#   bash tests/run.sh ARGS...    further arguments go to pytest
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")/.."
source setup.sh
setup requirements.txt tests/requirements.txt

# Processes of one thread each are quicker than one of many; the slow tests need the memory of several.
options=(-m "not slow" -n auto --maxprocesses 4 --dist loadfile)
export OMP_NUM_THREADS=1
if [ "${1:-}" = "--slow" ]; then
    options=()
    unset OMP_NUM_THREADS
    shift
fi
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest ${options[@]+"${options[@]}"} "$@"  # bash 3.2 takes an empty list for unset
