#!/usr/bin/env bash
# All figures of a GPU in one call of at most ten minutes, and the tests that only run there.
#
#   benchmarks/gpu.sh CAPTURE [FOLDER]
#
# CAPTURE: a prepared capture (fit_subject.py or preprocess_video.py made it), of 512x512 pixels for figures that compare.
# FOLDER: where the figures go as JSON, with each part's output as a log (default: $OUT, else gpu-figures).
# PYTHON: the interpreter (default: .venv/bin/python). A part that fails or takes too long does not stop the others;
# summary.txt says how each ended, and the exit status is 1 if any failed.
set -u
fail() { echo "gpu.sh: $1" >&2; exit 2; }
[ $# -ge 1 ] || fail "usage: benchmarks/gpu.sh CAPTURE [FOLDER]"
capture=$(realpath -m "$1")
folder=$(realpath -m "${2:-${OUT:-gpu-figures}}")
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-.venv/bin/python}
[ -f "$capture/manifest.json" ] || fail "$1 is not a capture: it has no manifest.json"
"$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" || fail "no CUDA device was found"
mkdir -p "$folder" || fail "$folder cannot be made"
: > "$folder/summary.txt"
failed=0

part() { # name, seconds at most, command
    local name=$1 limit=$2 begun=$SECONDS status=0
    shift 2
    echo "== $name"
    timeout -k 5 "$limit" "$@" > "$folder/$name.log" 2>&1 || status=$?
    tail -n 15 "$folder/$name.log"
    echo "$name: status $status after $((SECONDS - begun)) s" | tee -a "$folder/summary.txt"
    [ "$status" -eq 0 ] || failed=1
}

# gsplat compiles its CUDA code at its first use: apart, so that no figure waits for it. Limits add up to 585 s.
export MAX_JOBS=${MAX_JOBS:-$(nproc)}
part gsplat 165 "$python" -c "from renderers import create; create('gsplat', 'cuda').warm_up()"
[ "$failed" -eq 0 ] || fail "gsplat does not work here: see $folder/gsplat.log"
part tests 100 "$python" -m pytest -q -rs tests/contract/test_renderers.py tests/contract/test_avatars.py \
    tests/contract/test_batches.py tests/renderers/test_gsplat.py tests/playback/test_graphs.py \
    tests/playback/test_fused.py tests/fitting/networks/test_tinycudann.py
part playback 55 "$python" benchmarks/playback.py --preset default --gaussians 20000 50000 100000 --sizes 512 \
    --renderers gsplat --evaluations torch graph --seconds 2 --json "$folder/playback.json"
part playback_headgas 20 "$python" benchmarks/playback.py --preset headgas --gaussians 20000 --sizes 512 \
    --renderers gsplat --evaluations torch graph --seconds 2 --json "$folder/playback_headgas.json"
part playback_exported 20 "$python" benchmarks/playback.py --preset default --exported --gaussians 20000 --sizes 512 \
    --renderers gsplat --evaluations torch graph fused --seconds 1 --json "$folder/playback_exported.json"
part playback_compiled 60 "$python" benchmarks/playback.py --preset default --gaussians 20000 --sizes 512 \
    --renderers gsplat --evaluations compiled --seconds 1 --json "$folder/playback_compiled.json"
part fitting 40 "$python" benchmarks/fitting.py --device cuda --presets headgas gaussianhead default --seconds 3 \
    --json "$folder/fitting.json"
part batches 25 "$python" benchmarks/fitting.py --device cuda --presets default headgas --batch 1 2 4 8 --seconds 0.5 \
    --json "$folder/batches.json"
part rasterizer 20 "$python" benchmarks/rasterizer.py --quick --json "$folder/rasterizer.json"
run=$(mktemp -d)/run
part fit 80 "$python" fit_subject.py --capture "$capture" --preset default --minutes 0.5 --device cuda --out "$run"
for name in run.json metrics.json log.jsonl; do
    [ -f "$run/$name" ] && cp "$run/$name" "$folder/fit_$name"
done
exit "$failed"
