#!/usr/bin/env bash
# Tests a method on every dataset with weights that have not seen it: those trained on VisA on MVTec AD, those
# trained on MVTec AD on all others. At the end one table over the datasets, with the published figures.
# Edit the variables; the architecture comes from the checkpoints. Further flags are handed on to test.py.
# A test that was stopped goes on with the image in work when it is run again.
#
#   bash test.sh                          on MVTec AD and VisA
#   bash test.sh mpdd btad=/disk/btad     on these, of which one lies elsewhere; data/README.md names them all
#   METHOD=anomalyclip bash test.sh       AnomalyCLIP instead of FiLo
#   GPUS=4 bash test.sh                   by as many processes on this machine, each with a GPU of its own
#   bash test.sh deep_pcb ./data/deep_pcb ./checkpoints/filo_visa/filo.safetensors    with any weights, no table
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

METHOD="${METHOD:-filo}"        # filo or anomalyclip
SETS=(mvtec visa)               # datasets, NAME or NAME=ROOT
DATA=./data                     # the root of a dataset is $DATA/NAME where none is given
TABLE=./checkpoints/table_$METHOD.md   # the table over them

# Weights: your own training's where there are any, otherwise the authors' files as published.
TRAINED_ON_VISA=./checkpoints/${METHOD}_visa/$METHOD.safetensors
TRAINED_ON_MVTEC=./checkpoints/${METHOD}_mvtec/$METHOD.safetensors
case "$METHOD" in
anomalyclip)  # the authors named the second folder after the set it is tested on
    PUBLISHED_ON_VISA=./checkpoints/9_12_4_multiscale/epoch_15.pth
    PUBLISHED_ON_MVTEC=./checkpoints/9_12_4_multiscale_visa/epoch_15.pth
    ;;
*)
    PUBLISHED_ON_VISA=./checkpoints/filo_train_on_visa.pth
    PUBLISHED_ON_MVTEC=./checkpoints/filo_train_on_mvtec.pth
    ;;
esac

BATCH_SIZE=1                    # images at once; does not change the numbers

# AnomalyCLIP alone:
SIGMA=4                         # of the Gaussian over its maps, in pixels
METRICS=image-pixel-level       # or image-level, pixel-level

# FiLo alone: weights of Grounding DINO, fine-tuned on the dataset trained on, stock ones, or none at all.
GROUNDED_ON_VISA=./checkpoints/grounding_train_on_visa.pth
GROUNDED_ON_MVTEC=./checkpoints/grounding_train_on_mvtec.pth
GROUNDED_ON_OTHERS=./checkpoints/groundingdino_swint_ogc.pth   # for weights named on the command line
DETECTOR=auto                   # auto: if its weights are there; groundingdino; cached: only what is on disk; none
BERT=                           # vocab.txt of bert-base-uncased; empty: from the hub, once
BOX_THRESHOLD=0.25              # how likely a box must be,
TEXT_THRESHOLD=0.25             # a word to belong to it,
AREA_THRESHOLD=0.7              # and the share of the image that it must stay below

# Descriptions: those of the published program, if imported, for its weights; otherwise prompts/<dataset>.json.
MVTEC_PROMPTS=./prompts/official_mvtec.json
VISA_PROMPTS=./prompts/official_visa.json

source ./setup.sh
need_method
choose_weights() {  # OURS PUBLISHED: print the first that exists
    [ -e "$1" ] && echo "$1" && return
    [ -e "$2" ] && echo "$2" && return
    fail "neither $1 nor $2 exists: make the first by 'bash train.sh', or get the second as" \
        "checkpoints/README.md says, or change the paths at the top of test.sh; 'bash demo.sh' needs neither"
}
flags_of_filo() {  # CHECKPOINT DETECTOR_WEIGHTS PROMPTS: add to flags what only FiLo has
    if [ "$DETECTOR" = none ] || { [ "$DETECTOR" = auto ] && [ ! -e "$2" ] && [[ "$2" != drawn:* ]]; }; then
        [ "$DETECTOR" = none ] ||
            echo "note: no detector's weights in '$2', so no boxes: all positions, maps not weighted"
        flags+=(--detector none)
    else
        flags+=(--detector "${DETECTOR/auto/groundingdino}" --box_threshold "$BOX_THRESHOLD"
            --text_threshold "$TEXT_THRESHOLD" --area_threshold "$AREA_THRESHOLD")
        # what is on disk can be used without the weights it came from
        [ "$DETECTOR" = cached ] && [ ! -e "$2" ] && [[ "$2" != drawn:* ]] || flags+=(--grounded_checkpoint "$2")
        [ -z "$BERT" ] || flags+=(--bert "$BERT")
    fi
    case "$1" in
        *.safetensors) ;;
        *) if [ -e "$3" ]; then
               flags+=(--prompts "$3")
           elif [ -n "$3" ]; then  # there are published tables for this dataset
               echo "note: the published tables need the published descriptions: python prompts/import_official.py PATH"
           fi ;;
    esac
}
test_on() {  # NAME ROOT CHECKPOINT DETECTOR_WEIGHTS PROMPTS FLAGS...
    local flags=(--dataset "$1" --data_path "$2" --method "$METHOD" --ckpt_path "$3" --batch_size "$BATCH_SIZE")
    printf '\n== %s with %s\n' "$1" "$3"
    case "$METHOD" in
        filo) flags_of_filo "$3" "$4" "$5" ;;
        anomalyclip) flags+=(--sigma "$SIGMA" --metrics "$METRICS") ;;
    esac
    launch test.py "${flags[@]}" "${@:6}"
}

is_weights() {
    case "$1" in *.safetensors | *.pth | *.pt) return ;; esac
    [ -f "$1" ]
}
if [ $# -ge 3 ] && [[ "$1" != -* ]] && is_weights "$3"; then
    need_datasets "$1" "$2"
    setup requirements.txt
    make_meta "$1" "$2"
    test_on "$1" "$2" "$3" "$GROUNDED_ON_OTHERS" "" "${@:4}"
    exit
fi

NAMED=()
while [ $# -gt 0 ] && [[ "$1" != -* ]]; do
    NAMED+=("$1")
    shift
done
[ ${#NAMED[@]} = 0 ] || SETS=("${NAMED[@]}")
[[ " $*" != *" --save_path"* ]] || fail "--save_path is one folder: give it with NAME ROOT CHECKPOINT," \
    "or to test.py; several datasets are tested into test_on_NAME beside the weights"

NAMES=() ROOTS=() MISSING=()
for each in "${SETS[@]}"; do
    name="${each%%=*}" root="$DATA/${each%%=*}"
    [ "$each" = "$name" ] || root="${each#*=}"
    case "$name" in "" | */*) fail "'$each' names no dataset: wanted NAME, NAME=ROOT, or NAME ROOT CHECKPOINT" ;; esac
    [[ " ${NAMES[*]-} " != *" $name "* ]] || fail "the dataset $name is named twice"
    if is_there "$name" "$root"; then
        NAMES+=("$name")
        ROOTS+=("$root")
    else
        say_missing "$name" "$root"
        MISSING+=("$name")
    fi
done
[ ${#NAMES[@]} -gt 0 ] || stop_without_data

ON_VISA='' ON_MVTEC=''
for name in "${NAMES[@]}"; do
    if [ "$name" = mvtec ]; then
        ON_VISA="$(choose_weights "$TRAINED_ON_VISA" "$PUBLISHED_ON_VISA")"
    else
        ON_MVTEC="$(choose_weights "$TRAINED_ON_MVTEC" "$PUBLISHED_ON_MVTEC")"
    fi
done
setup requirements.txt
for i in "${!NAMES[@]}"; do
    make_meta "${NAMES[i]}" "${ROOTS[i]}"
done

FOLDERS=()
for i in "${!NAMES[@]}"; do
    name="${NAMES[i]}" weights="$ON_MVTEC" grounded="$GROUNDED_ON_MVTEC" prompts=''
    case "$name" in
        mvtec) weights="$ON_VISA" grounded="$GROUNDED_ON_VISA" prompts="$MVTEC_PROMPTS" ;;
        visa) prompts="$VISA_PROMPTS" ;;
    esac
    test_on "$name" "${ROOTS[i]}" "$weights" "$grounded" "$prompts" "$@"
    FOLDERS+=("$(dirname "$weights")/test_on_$name")
done

echo
"$PYTHON" -m filo.overview --out "$TABLE" "${FOLDERS[@]}"
if [ ${#MISSING[@]} -gt 0 ]; then
    echo "not tested, since they are not there: ${MISSING[*]}; the first lines say where to get them" >&2
    exit 1
fi
