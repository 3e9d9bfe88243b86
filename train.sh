#!/usr/bin/env bash
# Trains FiLo in both directions: on VisA (to be tested on MVTec AD) and on MVTec AD (to be tested on VisA).
# Edit the variables; the values here are the published ones. Further flags are handed on to train.py.
# Stopped in the middle, it goes on where it was when it is run again. Then: bash test.sh
#
#   GPUS=4 bash train.sh    by as many processes on this machine, each with a GPU of its own
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

VISA=./data/visa                # roots of the datasets
MVTEC=./data/mvtec
SAVE=./checkpoints              # one folder for each run is made here: filo_visa and filo_mvtec

CLIP_MODEL=ViT-L-14-336         # any open_clip ViT
CLIP_PRETRAINED=openai          # a weights tag (downloaded once), or a local file
IMAGE_SIZE=518                  # pixels; a multiple of the patch size, 14 here
FEATURES_LIST="6 12 18 24"      # layers that are tapped
N_CTX=12                        # learned vectors before each text
PRESET=official                 # official: as the published program; paper: as the paper

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
SAVE_EVERY=10                   # minutes of work that a kill may cost; the state takes 3 checkpoints; 0: none

source ./setup.sh
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
    if [ -e "$SAVE/filo_$1/filo.safetensors" ] && [ ! -e "$SAVE/filo_$1/state.safetensors" ]; then
        echo "$SAVE/filo_$1/filo.safetensors is there; remove it to train on $1 again"
        return
    fi
    # shellcheck disable=SC2086  # FEATURES_LIST is a list
    launch train.py --dataset "$1" --train_data_path "$2" --aug_rate "$3" --save_path "$SAVE/filo_$1" \
        --clip_model "$CLIP_MODEL" --clip_pretrained "$CLIP_PRETRAINED" --image_size "$IMAGE_SIZE" \
        --features_list $FEATURES_LIST --n_ctx "$N_CTX" --preset "$PRESET" \
        --epoch "$EPOCH" --adapter_epoch "$ADAPTER_EPOCH" --batch_size "$BATCH_SIZE" \
        --learning_rate "$LEARNING_RATE" --decoder_learning_rate "$DECODER_LEARNING_RATE" \
        --adapter_learning_rate "$ADAPTER_LEARNING_RATE" --seed "$SEED" --keep "$KEEP" --save_every "$SAVE_EVERY" "${@:4}"
}

train_on visa "$VISA" "$VISA_AUG_RATE" "$@"
train_on mvtec "$MVTEC" "$MVTEC_AUG_RATE" "$@"
echo "next: bash test.sh"
