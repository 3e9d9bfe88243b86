#!/usr/bin/env bash
# Sets everything up, draws two small datasets, trains FiLo on one and tests it on the other. No download but
# the packages, no GPU needed. The CLIP is a small one with weights drawn from a seed: it knows nothing of
# pictures or words, so the numbers show that everything runs, not how good FiLo is.
set -euo pipefail
cd "$(dirname "$0")"
source setup.sh
setup requirements.txt

DATA=data/demo
RUN=checkpoints/demo_run
SEED=0
CLIP=(--clip_model checkpoints/demo/clip.json --clip_pretrained "drawn:$SEED")

"$PYTHON" -m filo.synthetic --out "$DATA" --seed "$SEED"
"$PYTHON" data/visa.py --root "$DATA/visa"
"$PYTHON" data/mvtec.py --root "$DATA/mvtec"
"$PYTHON" train.py --dataset demo_visa --train_data_path "$DATA/visa" "${CLIP[@]}" \
    --image_size 112 --features_list 2 4 6 8 --epoch 10 --adapter_epoch 2 --batch_size 4 \
    --seed "$SEED" --save_path "$RUN" --overwrite
"$PYTHON" test.py --dataset demo_mvtec --data_path "$DATA/mvtec" --ckpt_path "$RUN/filo.safetensors" --batch_size 8

cat <<END

What was made
  $DATA/visa, $DATA/mvtec                     the two datasets, in the layouts of VisA and MVTec AD
  $RUN/filo.safetensors             the trained weights, one checkpoint per epoch beside them
  $RUN/log.jsonl                    the losses
  $RUN/test_on_demo_mvtec/          the table above and results.json

What to do next
  bash train.sh     train on the real VisA and MVTec AD; it says what to fetch and where to put it
  bash test.sh      test each on the other
  README.md         how to use your own images
END
