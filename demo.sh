#!/usr/bin/env bash
# Sets everything up, draws two small datasets, trains FiLo on one and tests it on the other. No download but
# the packages, no GPU needed. The CLIP is a small one with weights drawn from a seed: it knows nothing of
# pictures or words, so the numbers show that everything runs, not how good FiLo is.
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"
source setup.sh
setup requirements.txt

DATA=data/demo
RUN=checkpoints/demo_run
SEED=0
CLIP=(--clip_model checkpoints/demo/clip.json --clip_pretrained "drawn:$SEED")

say() { printf '\n== %s\n' "$*"; }

say "1/4 two small datasets, in the layouts of VisA and MVTec AD"
"$PYTHON" -m filo.synthetic --out "$DATA" --seed "$SEED" --overwrite
for name in visa mvtec; do
    "$PYTHON" "data/$name.py" --root "$DATA/$name" | sed '/^$/,$d'  # up to the hint, which is for real data
done

say "2/4 train on demo-VisA"
"$PYTHON" train.py --dataset demo_visa --train_data_path "$DATA/visa" "${CLIP[@]}" \
    --image_size 112 --features_list 2 4 6 8 --epoch 10 --adapter_epoch 2 --batch_size 4 \
    --seed "$SEED" --save_path "$RUN" --overwrite

say "3/4 test on demo-MVTec, whose objects it has never seen"
"$PYTHON" test.py --dataset demo_mvtec --data_path "$DATA/mvtec" --ckpt_path "$RUN/filo.safetensors" --batch_size 8 --report

say "4/4 what was made, and what to do next"
row() { printf '  %-50s %s\n' "$@"; }
row "$DATA/visa, $DATA/mvtec" "the two datasets"
row "$RUN/filo.safetensors" "the trained weights; one checkpoint per epoch beside them"
row "$RUN/log.jsonl, loss.png" "the losses"
row "$RUN/test_on_demo_mvtec/report.html" "the report page; table.md and results.json beside it"
echo
row "bash train.sh" "train on the real VisA and MVTec AD; it says what to fetch"
row "bash test.sh" "test each on the other"
row "README.md" "how to use your own images"
