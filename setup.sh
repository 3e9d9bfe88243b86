# Sourced by the other scripts, which then call `setup FILE...`: makes a virtual environment, installs the
# requirement files into it and leaves its interpreter in $PYTHON. Done once, and again when a file changes.
#
#   PYTHON=/path/to/python bash demo.sh    uses that interpreter's environment as it is, installs nothing
#   VENV=/path/to/folder bash demo.sh      makes the environment there instead of .venv

# By default OpenMP's threads spin long while they wait for one another. On a CPU that other work shares, that
# makes small models many times slower; a shorter spin costs nothing on an idle one.
export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-10000}"

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

setup() {
    if [ -n "${PYTHON:-}" ]; then
        PYTHON="$(_from_caller "$PYTHON")"
        _check_own_python "$@"
        return
    fi
    local venv file
    venv="$(_from_caller "${VENV:-$ROOT/.venv}")"
    "$venv/bin/python" -c '' 2>/dev/null || _make_venv "$venv"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null 2>&1 ||
        fail "the environment $venv has no pip: on Debian and Ubuntu install python3-venv and remove that folder"
    for file in "$@"; do
        _install "$venv" "$ROOT/$file"
    done
    PYTHON="$venv/bin/python"
}

# The scripts change into the repository; a path is meant from $CALLER, where they were called.
_from_caller() {
    case "$1" in
        /*) echo "$1" ;;
        */*) echo "${CALLER:-$PWD}/$1" ;;
        *) echo "$1" ;;
    esac
}

fail() {
    echo "error: $*" >&2
    exit 2
}

_check_own_python() {
    local file modules
    command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is no program; name your environment's python"
    for file in "$@"; do
        case "$file" in
            requirements.txt) modules="cv2, groundingdino, matplotlib, numpy, open_clip, PIL, safetensors, sklearn, tabulate, torch, torchvision, tqdm, transformers" ;;
            *) modules="hypothesis, openai, pycocotools, pytest, ruff, scipy, xdist" ;;
        esac
        "$PYTHON" -c "import $modules" || fail "PYTHON=$PYTHON lacks what the line above names:" \
            "run '$PYTHON -m pip install -r $file', or leave PYTHON unset"
    done
}

_make_venv() {
    command -v python3 >/dev/null || fail "python3 is not on the PATH; Python 3.10 or newer is needed"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "python3 is $(python3 -V 2>&1); Python 3.10 or newer is needed"
    # only the environment of our own making is cleared; what else VENV names is its owner's
    [ "$1" = "$ROOT/.venv" ] || [ ! -e "$1" ] || [ -z "$(ls -A "$1")" ] ||
        fail "$1 exists and holds no Python that runs: remove it, or name an empty folder by VENV"
    echo "making a virtual environment in $1"
    python3 -m venv --clear "$1" || fail "cannot make $1; on Debian and Ubuntu the package python3-venv is needed"
}

# A stamp is written only after a complete install, so a broken-off one is taken up again.
_install() {
    local venv="$1" file="$2" stamp
    stamp="$venv/.installed-$(basename "$(dirname "$file")")-$(basename "$file")"
    cmp -s "$file" "$stamp" && return
    echo "installing $file into $venv (once; PyTorch, where it is among them, is several GB)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$file" ||
        fail "pip could not install $file; the lines above say why; run the same command again to go on"
    cp "$file" "$stamp"
}

# launch SCRIPT FLAGS...: run it by $GPUS processes, each with a GPU of its own; needs `setup`.
launch() {
    case "${GPUS:-1}" in
        1) "$PYTHON" "$@" ;;
        *[!0-9]* | 0*) fail "GPUS=$GPUS: wanted how many processes, 1 or more" ;;
        *) "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node="$GPUS" "$@" ;;
    esac
}

# need_method: stop unless $METHOD is one that these scripts know.
need_method() {
    case "$METHOD" in
        filo | anomalyclip) ;;
        *) fail "METHOD=$METHOD: wanted filo or anomalyclip" ;;
    esac
}

# need_datasets NAME ROOT [NAME ROOT]...: stop, saying what to fetch and where to put it, unless all are there.
need_datasets() {
    local missing=0
    while [ $# -gt 0 ]; do
        is_there "$1" "$2" || { say_missing "$1" "$2" && missing=1; }
        shift 2
    done
    [ "$missing" = 0 ] || stop_without_data
}

# is_there NAME ROOT: whether ROOT has a meta.json, or anything of which the dataset's script may make one
is_there() {
    [ -e "$2/meta.json" ] || { [ -e "data/$1.py" ] && [ -n "$(ls -A "$2" 2>/dev/null)" ]; }
}

say_missing() {  # NAME ROOT
    echo "error: the dataset $1 is not in $2" >&2
    if [ -e "data/$1.py" ]; then
        echo "  fetch it:   $(grep -om1 'https\{0,1\}://[^ ")]*' "data/$1.py"); data/README.md has licence and size" >&2
        echo "  put it so:  as the top of data/$1.py draws it, or say at the top of $(basename "$0") where it lies" >&2
    else
        echo "  there is no script data/$1.py for it; data/README.md names those there are" >&2
        echo "  your own:   python data/folder.py --root $2" >&2
    fi
}

stop_without_data() {
    echo "Then once more: bash $(basename "$0")" >&2
    echo "No data at hand? bash demo.sh draws a small dataset and runs everything on it." >&2
    exit 2
}

# make_meta NAME ROOT: write meta.json if it is not there yet; needs `setup`.
make_meta() {
    [ -e "$2/meta.json" ] || "$PYTHON" "data/$1.py" --root "$2"
}
