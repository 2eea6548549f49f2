#!/usr/bin/env bash
# Test and measure the project on a GPU, in at most six minutes.
#
#   PYTHON=.venv/bin/python scripts/benchmarks/gpu.sh [FOLDER]
#
# Each part has a time limit of its own, and leaves its output in FOLDER (by default $OUT, or runs/gpu) even if a later
# part fails: tests, recurrent, training, embedding and resume. The table at the end is also in FOLDER/table.txt. Needs
# charembed[dev], and charembed[flair] for the comparison of embedding with Flair.
#
# SENTENCES names a labelled file whose sentences are embedded, in place of the text of the repository. DEVICE=cpu runs
# all parts at tiny sizes without a GPU and with more time, which checks this script and measures nothing.
#
# Exit status: 0 if every part succeeded, 1 if one failed or ran out of time, 2 if there is no GPU.
set -u

folder=${1:-${OUT:-runs/gpu}}
mkdir -p "$folder" || exit 1
folder=$(cd "$folder" && pwd) || exit 1
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

python=${PYTHON:-python3}
device=${DEVICE:-cuda}
if [ "$device" = cuda ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "There is no GPU that PyTorch can use, so nothing was tested or measured. DEVICE=cpu checks this script." >&2
    exit 2
fi

# Sizes on a GPU, and tiny ones to check this script.
if [ "$device" = cuda ]; then
    slower=1
    recurrent=(--hidden-sizes '[1024]' --batch 128 --rounds 5)
    training=(--hidden-sizes '[1024]' --batch-sizes '[128,512]' --precisions '[bfloat16]' --rounds 5 --steps 10)
    embedding=(--hidden-sizes '[1024,2048]' --threads '[2]' --sentences 1000)
    resume=(--hidden-size 1024 --batch-size 256 --steps 400)
else
    slower=10
    recurrent=(--hidden-sizes '[8]' --batch 2 --steps 3 --rounds 1)
    training=(--hidden-sizes '[8]' --batch-sizes '[2]' --precisions '[float32]' --rounds 1 --steps 1)
    embedding=(--hidden-sizes '[8]' --threads '[1]' --sentences 5 --rounds 1)
    resume=(--hidden-size 16 --batch-size 16 --steps 250)
fi

failed=0
# part NAME SECONDS COMMAND...: run a command for at most some seconds, and record its output, exit status and time.
part() {
    local name=$1 limit=$(($2 * slower)) began=$SECONDS status=0
    shift 2
    echo "== $name (at most $limit s)"
    timeout -k 3 "$limit" "$@" >"$folder/$name.txt" 2>&1 || status=$?
    echo "$status $((SECONDS - began))" >"$folder/$name.status"
    [ "$status" -eq 0 ] || failed=1
    tail -n 12 "$folder/$name.txt"
}

# What an earlier run has left would look like results of this one.
rm -rf "$folder"/{tests,recurrent,training,embedding,resume}.{txt,status} "$folder/table.txt" "$folder/resume"

sentences=${SENTENCES:-$folder/sentences.conll}
if [ -z "${SENTENCES:-}" ]; then
    "$python" -m scripts.benchmarks.gpu sentences "$sentences" || exit 1
fi

part tests 85 "$python" -m pytest -q -m gpu -p no:cacheprovider
part recurrent 50 "$python" -m scripts.benchmarks.recurrent --device "$device" "${recurrent[@]}"
part training 50 "$python" -m scripts.benchmarks.training speed --device "$device" "${training[@]}"
part embedding 70 "$python" -m scripts.benchmarks.embedding speed "$sentences" --device "$device" "${embedding[@]}"
part resume 70 "$python" -m scripts.benchmarks.gpu resume "$folder/resume" --device "$device" "${resume[@]}"

"$python" -m scripts.benchmarks.gpu table "$folder" | tee "$folder/table.txt"
exit "$failed"
