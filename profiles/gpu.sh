#!/bin/bash
# gpu.sh INTO MINUTES DATA...: what the first minutes of a GPU are for. First the tests that need one, then the trainings of ResNet-56 with and without
# shortcuts (Loss landscape), then the layer sums of ResNet-20 (LCA), one seed each. It may be cut off at any second: INTO then holds archives that are
# at most a minute old, each at most 16 MiB, and the same call goes on from them, on another machine too. DATA: folders that hold CIFAR-10 or its pieces.
# PYTHON names the interpreter; WORK the folder for large files, which need not survive. Status: 0 all done, 75 call again, 1 something failed.
set -u
into=$1 minutes=$2
shift 2
python=${PYTHON:-python3} work=${WORK:-/tmp/replication_work} status=0
mkdir -p "$into"

# record SHARE NAME...: these names of the queue for a share of the minutes that are left
record() {
    local share=$1 time
    shift
    time=$(awk -v all="$minutes" -v share="$share" -v used="$SECONDS" 'BEGIN { left = share * (all - used / 60); print (left > 0.01 ? left : 0.01) }')
    "$python" -m replication record --minutes "$time" --into "$into" --work "$work" --data "${data[@]}" --seeds 1 --only "$@" --scale "${SCALE:-full}"
    local ended=$?
    [ $ended -eq 0 ] || [ $status -eq 1 ] || status=$ended
}

data=("$@")
timeout 180 "$python" -m pytest -n 0 -q -m gpu tests/device >"$into/gpu_tests.txt" 2>&1
tail -n 1 "$into/gpu_tests.txt"
record 0.65 resnet56 resnet56_noshort
record 1 resnet20_layers
exit $status
