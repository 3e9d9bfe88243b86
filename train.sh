#!/usr/bin/env bash
# Trains a method in both directions: on VisA (to be tested on MVTec AD) and on MVTec AD (to be tested on all
# others). Edit the variables; the values here are the published ones. Further flags are handed on to train.py.
# Stopped in the middle, it goes on where it was when it is run again. Then: bash test.sh
#
#   METHOD=anomalyclip bash train.sh    AnomalyCLIP instead of FiLo
#   GPUS=4 bash train.sh                by as many processes on this machine, each with a GPU of its own
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

METHOD="${METHOD:-filo}"        # filo or anomalyclip
VISA=./data/visa                # roots of the datasets
MVTEC=./data/mvtec
SAVE=./checkpoints              # one folder for each run is made here: filo_visa and filo_mvtec

CLIP_MODEL=ViT-L-14-336         # any open_clip ViT
CLIP_PRETRAINED=openai          # a weights tag (downloaded once), or a local file
IMAGE_SIZE=518                  # pixels; a multiple of the patch size, 14 here
SAVE_EVERY=10                   # minutes of work that a kill may cost; 0: keep no state

case "$METHOD" in
filo)
    PRESET=official                 # official: as the published program; paper: as the paper
    FEATURES_LIST="6 12 18 24"      # layers that are tapped
    N_CTX=12                        # learned vectors before each text
    EPOCH=15                        # stage 1: prompts and heads
    ADAPTER_EPOCH=5                 # stage 2: adapter
    BATCH_SIZE=1                    # of each process: GPUS x BATCH_SIZE images make a step
    LEARNING_RATE=1e-3              # learned vectors and their nets
    DECODER_LEARNING_RATE=1e-4      # linear and MMCI heads
    ADAPTER_LEARNING_RATE=1e-5
    MVTEC_AUG_RATE=0.2              # share of 2x2 mosaics; published for MVTec AD only
    VISA_AUG_RATE=0
    SEED=0
    KEEP=last                       # checkpoints of 0.9 GB: the last of each stage, or all
    ;;
anomalyclip)
    FEATURES_LIST=24                # layers that are tapped
    FEATURE_MAP_LAYER=0             # taps that are left out, from the first
    N_CTX=12                        # learned vectors before "object." and "damaged object."
    DEPTH=9                         # text blocks, from the first, that see learned vectors;
    T_N_CTX=4                       # each behind the first has this many of its own
    EPOCH=15
    BATCH_SIZE=8                    # of each process: GPUS x BATCH_SIZE images make a step
    LEARNING_RATE=1e-3
    MVTEC_AUG_RATE=0                # share of 2x2 mosaics; published are none
    VISA_AUG_RATE=0
    SEED=111
    KEEP=all                        # checkpoints of 0.2 MB: of every epoch, or the last
    ;;
esac

source ./setup.sh
need_method
need_datasets visa "$VISA" mvtec "$MVTEC"
case "$CLIP_PRETRAINED" in
    */* | *.pt | *.safetensors)
        [ -e "$CLIP_PRETRAINED" ] || fail "CLIP_PRETRAINED=$CLIP_PRETRAINED does not exist: correct it at the top" \
            "of train.sh (openai fetches the weights), then again: bash train.sh; bash demo.sh needs none" ;;
esac
setup requirements.txt

make_meta visa "$VISA"
make_meta mvtec "$MVTEC"

train_on() {  # NAME ROOT AUG_RATE FLAGS...
    local folder="$SAVE/${METHOD}_$1" own
    if [ -e "$folder/$METHOD.safetensors" ] && [ ! -e "$folder/state.safetensors" ]; then
        echo "$folder/$METHOD.safetensors is there; remove it to train on $1 again"
        return
    fi
    case "$METHOD" in
        filo) own=(--preset "$PRESET" --adapter_epoch "$ADAPTER_EPOCH"
            --decoder_learning_rate "$DECODER_LEARNING_RATE" --adapter_learning_rate "$ADAPTER_LEARNING_RATE") ;;
        anomalyclip) own=(--method anomalyclip --depth "$DEPTH" --t_n_ctx "$T_N_CTX"
            --feature_map_layer "$FEATURE_MAP_LAYER") ;;
    esac
    # shellcheck disable=SC2086  # FEATURES_LIST is a list
    launch train.py --dataset "$1" --train_data_path "$2" --aug_rate "$3" --save_path "$folder" \
        --clip_model "$CLIP_MODEL" --clip_pretrained "$CLIP_PRETRAINED" --image_size "$IMAGE_SIZE" \
        --features_list $FEATURES_LIST --n_ctx "$N_CTX" --epoch "$EPOCH" --batch_size "$BATCH_SIZE" \
        --learning_rate "$LEARNING_RATE" --seed "$SEED" --keep "$KEEP" --save_every "$SAVE_EVERY" "${own[@]}" "${@:4}"
}

train_on visa "$VISA" "$VISA_AUG_RATE" "$@"
train_on mvtec "$MVTEC" "$MVTEC_AUG_RATE" "$@"
[ "$METHOD" = filo ] && echo "next: bash test.sh" || echo "next: METHOD=$METHOD bash test.sh"
