#!/usr/bin/env bash
# Tests FiLo in both directions: trained on VisA on MVTec AD, trained on MVTec AD on VisA.
# Edit the variables; the architecture comes from the checkpoints. Further flags are handed on to test.py.
set -euo pipefail
CALLER="$PWD"  # for setup.sh
cd "$(dirname "$0")"

MVTEC=./data/mvtec              # roots of the datasets
VISA=./data/visa
TRAINED_ON_VISA=./checkpoints/filo_visa/filo.safetensors
TRAINED_ON_MVTEC=./checkpoints/filo_mvtec/filo.safetensors
BATCH_SIZE=1                    # images at once; does not change the numbers

source ./setup.sh
need_datasets mvtec "$MVTEC" visa "$VISA"
for checkpoint in "$TRAINED_ON_VISA" "$TRAINED_ON_MVTEC"; do
    [ -e "$checkpoint" ] || fail "$checkpoint does not exist: make it by 'bash train.sh', or change its path" \
        "at the top of test.sh; 'bash demo.sh' needs neither data nor weights"
done
setup requirements.txt

make_meta mvtec "$MVTEC"
make_meta visa "$VISA"

test_on() {  # NAME ROOT CHECKPOINT FLAGS...
    "$PYTHON" test.py --dataset "$1" --data_path "$2" --ckpt_path "$3" --batch_size "$BATCH_SIZE" "${@:4}"
}

test_on mvtec "$MVTEC" "$TRAINED_ON_VISA" "$@"
test_on visa "$VISA" "$TRAINED_ON_MVTEC" "$@"
