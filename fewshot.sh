#!/usr/bin/env bash
# Tests FADE (CLIP-LMFA) or WinCLIP, which need no training, without any normal image and with a few of each class:
# the recipes of FADE's published README, several seeds, at the end one table. Edit the variables. Further flags are
# handed on to test.py. A test that was stopped goes on when it is run again.
#
#   bash fewshot.sh                            FADE on MVTec AD and VisA
#   METHOD=winclip bash fewshot.sh             WinCLIP and WinCLIP+
#   bash fewshot.sh mpdd btad=/disk/btad       on these datasets
#   GPUS=4 bash fewshot.sh                     by as many processes on this machine, each with a GPU of its own
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

METHOD="${METHOD:-fade}"        # fade or winclip
SETS=(mvtec visa)               # datasets, NAME or NAME=ROOT
DATA=./data                     # the root of a dataset is $DATA/NAME where none is given
SHOTS=(0 1 2 4)                 # normal images of each class that are shown
SEEDS=(0 1 2 3 4)               # of their draw; without references nothing is drawn
RESULTS=./results/$METHOD       # a folder for each test is made here, and table.md

CLIP_MODEL=ViT-B-16-plus-240    # any open_clip ViT, looked at in its own image size
CLIP_PRETRAINED=laion400m_e31   # a weights tag (downloaded once), or a local file
BATCH_SIZE=1                    # images at once; does not change the numbers

# FADE alone, as published: with references CLIP's patches, multiplier 3.5 and weight 0.85; without any GEM's,
# the image's own patches as memory, multiplier 80 and weight 0.5
FEW=(--preset few-shot)
ZERO=(--preset zero-shot)       # for language alone: (--classification-mode language --segmentation-mode language)
FUSION=fixed                    # or adaptive: weights from the references alone, this project's own

source ./setup.sh
case "$METHOD" in
    fade | winclip) ;;
    *) fail "METHOD=$METHOD: wanted fade or winclip; trained methods take --shots in test.py" ;;
esac

test_on() {  # NAME ROOT SHOTS FLAGS...: test with so many references into a folder of its own
    local folder="$RESULTS/$1_$3shot"
    local flags=(--method "$METHOD" --dataset "$1" --data_path "$2" --shots "$3" --save_path "$folder"
        --clip_model "$CLIP_MODEL" --clip_pretrained "$CLIP_PRETRAINED" --batch_size "$BATCH_SIZE")
    printf '\n== %s, %s references of each class: %s\n' "$1" "$3" "$METHOD"
    if [ "$3" -gt 0 ]; then
        flags+=(--seed "${SEEDS[@]}")
        [ "$METHOD" != fade ] || flags+=("${FEW[@]}" --fusion "$FUSION")
    elif [ "$METHOD" = fade ]; then
        flags+=("${ZERO[@]}")
    fi
    launch test.py "${flags[@]}" "${@:4}"
    RUNS+=("$METHOD, $3 shots=$folder")
}

FLAGS=()
named=()
for word in "$@"; do
    if [ ${#FLAGS[@]} -gt 0 ] || [[ "$word" = -* ]]; then FLAGS+=("$word"); else named+=("$word"); fi
done
[ ${#named[@]} -eq 0 ] || SETS=("${named[@]}")

RUNS=()
places=()
for each in "${SETS[@]}"; do
    root="$DATA/${each%%=*}"
    [[ "$each" != *=* ]] || root="${each#*=}"
    places+=("${each%%=*}" "$root")
done
need_datasets "${places[@]}"
setup requirements.txt
for ((i = 0; i < ${#places[@]}; i += 2)); do
    make_meta "${places[i]}" "${places[i + 1]}"
    for shots in "${SHOTS[@]}"; do
        test_on "${places[i]}" "${places[i + 1]}" "$shots" ${FLAGS[@]+"${FLAGS[@]}"}
    done
done

echo
"$PYTHON" -m filo.overview --out "$RESULTS/table.md" "${RUNS[@]}"
