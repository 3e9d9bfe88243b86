#!/usr/bin/env bash
# Tests FiLo in both directions: trained on VisA on MVTec AD, trained on MVTec AD on VisA.
# Edit the variables; the architecture comes from the checkpoints. Further flags are handed on to test.py.
# A test that was stopped goes on with the image in work when it is run again.
#
#   bash test.sh
#   GPUS=4 bash test.sh    by as many processes on this machine, each with a GPU of its own; the same numbers
#   bash test.sh deep_pcb ./data/deep_pcb ./checkpoints/filo_visa/filo.safetensors    another dataset, any weights
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

MVTEC=./data/mvtec              # roots of the datasets
VISA=./data/visa

# Weights of FiLo: your own training's where there are any, otherwise the authors' files as published.
TRAINED_ON_VISA=./checkpoints/filo_visa/filo.safetensors
TRAINED_ON_MVTEC=./checkpoints/filo_mvtec/filo.safetensors
PUBLISHED_ON_VISA=./checkpoints/filo_train_on_visa.pth
PUBLISHED_ON_MVTEC=./checkpoints/filo_train_on_mvtec.pth

# Weights of Grounding DINO: fine-tuned on the dataset trained on, stock ones, or none at all.
GROUNDED_ON_VISA=./checkpoints/grounding_train_on_visa.pth
GROUNDED_ON_MVTEC=./checkpoints/grounding_train_on_mvtec.pth
GROUNDED_ON_OTHERS=./checkpoints/groundingdino_swint_ogc.pth   # for a dataset named on the command line
DETECTOR=auto                   # auto: if its weights are there; groundingdino; cached: only what is on disk; none
BERT=                           # vocab.txt of bert-base-uncased; empty: from the hub, once
BOX_THRESHOLD=0.25              # how likely a box must be,
TEXT_THRESHOLD=0.25             # a word to belong to it,
AREA_THRESHOLD=0.7              # and the share of the image that it must stay below

# Descriptions: those of the published program, if imported, for its weights; otherwise prompts/<dataset>.json.
MVTEC_PROMPTS=./prompts/official_mvtec.json
VISA_PROMPTS=./prompts/official_visa.json

BATCH_SIZE=1                    # images at once; does not change the numbers

source ./setup.sh
choose_weights() {  # OURS PUBLISHED: print the first that exists
    [ -e "$1" ] && echo "$1" && return
    [ -e "$2" ] && echo "$2" && return
    fail "neither $1 nor $2 exists: make the first by 'bash train.sh', or get the second as" \
        "checkpoints/README.md says, or change the paths at the top of test.sh; 'bash demo.sh' needs neither"
}
test_on() {  # NAME ROOT CHECKPOINT DETECTOR_WEIGHTS PROMPTS FLAGS...
    local flags=(--dataset "$1" --data_path "$2" --ckpt_path "$3" --batch_size "$BATCH_SIZE")
    printf '\n== %s with %s\n' "$1" "$3"
    if [ "$DETECTOR" = none ] || { [ "$DETECTOR" = auto ] && [ ! -e "$4" ] && [[ "$4" != drawn:* ]]; }; then
        [ "$DETECTOR" = none ] ||
            echo "note: no detector's weights in '$4', so no boxes: all positions, maps not weighted"
        flags+=(--detector none)
    else
        flags+=(--detector "${DETECTOR/auto/groundingdino}" --box_threshold "$BOX_THRESHOLD"
            --text_threshold "$TEXT_THRESHOLD" --area_threshold "$AREA_THRESHOLD")
        # what is on disk can be used without the weights it came from
        [ "$DETECTOR" = cached ] && [ ! -e "$4" ] && [[ "$4" != drawn:* ]] || flags+=(--grounded_checkpoint "$4")
        [ -z "$BERT" ] || flags+=(--bert "$BERT")
    fi
    case "$3" in
        *.safetensors) ;;
        *) if [ -e "$5" ]; then
               flags+=(--prompts "$5")
           elif [ -n "$5" ]; then  # there are published tables for this dataset
               echo "note: the published tables need the published descriptions: python prompts/import_official.py PATH"
           fi ;;
    esac
    launch test.py "${flags[@]}" "${@:6}"
}

if [ $# -ge 3 ] && [[ "$1" != -* ]]; then
    need_datasets "$1" "$2"
    setup requirements.txt
    make_meta "$1" "$2"
    test_on "$1" "$2" "$3" "$GROUNDED_ON_OTHERS" "" "${@:4}"
    exit
fi

need_datasets mvtec "$MVTEC" visa "$VISA"
FILO_ON_VISA="$(choose_weights "$TRAINED_ON_VISA" "$PUBLISHED_ON_VISA")"
FILO_ON_MVTEC="$(choose_weights "$TRAINED_ON_MVTEC" "$PUBLISHED_ON_MVTEC")"
setup requirements.txt
make_meta mvtec "$MVTEC"
make_meta visa "$VISA"
test_on mvtec "$MVTEC" "$FILO_ON_VISA" "$GROUNDED_ON_VISA" "$MVTEC_PROMPTS" "$@"
test_on visa "$VISA" "$FILO_ON_MVTEC" "$GROUNDED_ON_MVTEC" "$VISA_PROMPTS" "$@"
