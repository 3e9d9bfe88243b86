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

marks=(-m "not slow")
if [ "${1:-}" = "--slow" ]; then
    marks=()
    shift
fi
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
exec "$PYTHON" -m pytest ${marks[@]+"${marks[@]}"} "$@"  # bash 3.2 takes an empty list for unset
