#!/usr/bin/env bash
# Sets everything up, draws two small datasets, trains FiLo on one and tests it on the other, beside the same
# without its kernels of several shapes and beside CLIP alone. No download but the packages, no GPU needed. The
# CLIP is a small one, pretrained on drawn pictures: checkpoints/demo/README.md says what it has seen.
#
#   SEED=1 TRAIN=mvtec TEST=visa bash demo.sh    another seed, the other way round
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"
source setup.sh
setup requirements.txt

SEED="${SEED:-0}"               # of pictures, first weights and order
TRAIN="${TRAIN:-visa}"          # trained on one of visa and mvtec, tested on the other
TEST="${TEST:-mvtec}"
DATA="${DATA:-data/demo}"       # folder of the two datasets
RUN="${RUN:-checkpoints/demo_run}"   # folder of all that is made
CLIP=(--clip_model checkpoints/demo/clip.json --clip_pretrained checkpoints/demo/clip.safetensors --image_size 176)
TRAINING=(--preset paper --features_list 5 6 7 8 --epoch 3 --adapter_epoch 1 --batch_size 8 --learning_rate 1e-3
    --decoder_learning_rate 3e-4 --adapter_learning_rate 1e-3)

say() { printf '\n== %s\n' "$*"; }

train_and_test() {  # NAME "FLAGS OF train.py" FLAGS OF test.py...
    "$PYTHON" train.py --dataset "demo_$TRAIN" --train_data_path "$DATA/$TRAIN" "${CLIP[@]}" "${TRAINING[@]}" $2 \
        --cache_features "$RUN/features" --seed "$SEED" --save_path "$RUN/$1" --keep last --overwrite
    "$PYTHON" test.py --dataset "demo_$TEST" --data_path "$DATA/$TEST" --ckpt_path "$RUN/$1/filo.safetensors" \
        --batch_size 8 --save_path "$RUN/$1/test_on_demo_$TEST" "${@:3}"
}

say "1/5 two small datasets, in the layouts of VisA and MVTec AD"
"$PYTHON" -m filo.synthetic --out "$DATA" --seed "$SEED" --overwrite
for name in visa mvtec; do
    "$PYTHON" "data/$name.py" --root "$DATA/$name" | sed '/^$/,$d'  # up to the hint, which is for real data
done

say "2/5 CLIP alone on demo-$TEST, with generic words"
"$PYTHON" -m filo.demo.alone --dataset "demo_$TEST" --data_path "$DATA/$TEST" "${CLIP[@]}" --save_path "$RUN/alone"

say "3/5 FG-Des only: train on demo-$TRAIN, test on demo-$TEST, whose objects it has never seen"
rm -rf "$RUN/features"  # a demo that was broken off leaves them
train_and_test fg_des "--without shapes scales"

say "4/5 full FiLo: the same with MMCI's kernels"
train_and_test full "" --report
rm -r "$RUN/features"

say "5/5 side by side: trained on demo-$TRAIN, tested on demo-$TEST"
"$PYTHON" -m filo.compare --out "$RUN/table.md" "CLIP alone, generic words=$RUN/alone" \
    "FG-Des only=$RUN/fg_des/test_on_demo_$TEST" "full FiLo=$RUN/full/test_on_demo_$TEST"

say "what was made, and what to do next"
row() { printf '  %-50s %s\n' "$@"; }
row "$DATA/visa, $DATA/mvtec" "the two datasets"
row "$RUN/full/filo.safetensors" "the trained weights"
row "$RUN/full/log.jsonl, loss.png" "the losses"
row "$RUN/full/test_on_demo_$TEST/report.html" "the report page; table.md and results.json beside it"
row "$RUN/table.md" "the table above"
echo
row "bash train.sh" "train on the real VisA and MVTec AD; it says what to fetch"
row "bash test.sh" "test each on the other"
row "README.md" "how to use your own images"
