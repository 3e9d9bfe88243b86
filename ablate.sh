#!/usr/bin/env bash
# Fills tables 2 to 4 of the paper for one pair of datasets, but for their rows of plain CLIP: what descriptions,
# learned template, boxes, position and MMCI's kernels are worth. Rows that differ in what is trained are trained
# by themselves, seven in all; what is there already is not made again, and a training that was stopped goes on.
# Edit the variables.
#
#   GPUS=4 bash ablate.sh    by as many processes on this machine, each with a GPU of its own
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

TRAIN=visa                      # name and root of the dataset trained on
TRAIN_ROOT=./data/visa
TEST=mvtec                      # and of the one tested on
TEST_ROOT=./data/mvtec
SAVE=./checkpoints/ablation/${TRAIN}_to_$TEST   # a folder for each row, and table.md
GROUNDED=./checkpoints/grounding_train_on_visa.pth   # weights of Grounding DINO; without them two rows stay out
TRAIN_FLAGS=()                  # as (--epoch 15 --clip_pretrained ./ViT-L-14-336px.pt); see python train.py --help
TEST_FLAGS=()                   # as (--bert ./vocab.txt); see python test.py --help

source ./setup.sh
need_datasets "$TRAIN" "$TRAIN_ROOT" "$TEST" "$TEST_ROOT"
setup requirements.txt
make_meta "$TRAIN" "$TRAIN_ROOT"
make_meta "$TEST" "$TEST_ROOT"

BOXES=(--grounded_checkpoint "$GROUNDED")
has_boxes=1
[ -e "$GROUNDED" ] || [[ "$GROUNDED" = drawn:* ]] || has_boxes=0
[ "$has_boxes" = 1 ] || echo "note: $GROUNDED is not there, so every row goes without boxes"
RUNS=()

# done_by FOLDER FILE COMMAND...: whether that command made FILE; stops if another one did
done_by() {
    [ -e "$1/$2" ] || return 1
    [ "$(cat "$1/command" 2>/dev/null)" = "${*:3}" ] ||
        fail "$1 was made by other settings: remove it, or choose another SAVE at the top of ablate.sh"
}

train_without() {  # NAME PART...: make $SAVE/NAME/filo.safetensors
    local name="$1" parts=()
    shift
    [ $# = 0 ] || parts=(--without "$@")
    local command=(train.py --dataset "$TRAIN" --train_data_path "$TRAIN_ROOT" --save_path "$SAVE/$name"
        --keep last ${parts[@]+"${parts[@]}"} ${TRAIN_FLAGS[@]+"${TRAIN_FLAGS[@]}"})
    local by=("${command[@]}")
    [ "${GPUS:-1}" = 1 ] || by=("GPUS=$GPUS" "${by[@]}")  # with larger steps it is another training
    ! done_by "$SAVE/$name" filo.safetensors "${by[@]}" || return 0
    [ -e "$SAVE/$name/state.safetensors" ] || command+=(--overwrite)
    launch "${command[@]}"
    echo "${by[*]}" >"$SAVE/$name/command"
}

row() {  # LABEL NAME TEST FLAGS...: test $SAVE/NAME into its folder TEST
    local folder="$SAVE/$2/$3"
    local command=(test.py --dataset "$TEST" --data_path "$TEST_ROOT" --ckpt_path "$SAVE/$2/filo.safetensors"
        --save_path "$folder" "${@:4}" ${TEST_FLAGS[@]+"${TEST_FLAGS[@]}"})
    RUNS+=("$1=$folder")
    ! done_by "$folder" results.json "${command[@]}" || return 0
    launch "${command[@]}"
    echo "${command[*]}" >"$folder/command"
}

full() {  # KERNELS NAME: a row with boxes and position where there is a detector
    if [ "$has_boxes" = 1 ]; then
        row "table 4: grounding, position, $1" "$2" boxes "${BOXES[@]}"
    else
        row "table 4, no detector: $1" "$2" plain --detector none
    fi
}

train_without states descriptions template shapes scales
row "table 2: generic states, fixed template" states plain --detector none
train_without described template shapes scales
row "table 2: and descriptions" described plain --detector none
train_without learned descriptions shapes scales
row "table 3: generic states, learned template" learned plain --detector none
train_without linear shapes scales
row "table 3: and descriptions (table 4: no part)" linear plain --detector none
if [ "$has_boxes" = 1 ]; then
    row "table 4: grounding" linear grounding --without position "${BOXES[@]}"
    row "table 4: grounding, position" linear boxes "${BOXES[@]}"
fi
train_without shapes scales
full "shapes" shapes
train_without scales shapes
full "scales" scales
train_without all
full "shapes, scales" all

echo
"$PYTHON" -m filo.compare --out "$SAVE/table.md" "${RUNS[@]}"
