#!/usr/bin/env bash
# The figures of a GPU, and the tests that only run there, in three calls of less than ten minutes each:
#
#   benchmarks/gpu.sh [options] A|B|C|PART ...      benchmarks/gpu.sh --list
#
#   A  gsplat's compilation and the contract tests on the GPU
#   B  playback at 20K, 50K and 100K Gaussians: torch, graph, fused, compiled; exported, headgas, gaussianhead
#   C  the rasteriser alone, blending, fitting (steps of 1, 4 and 8 frames), and a whole fit of a minute
#
# --capture DIR  a prepared capture for the fit of C, of 512x512 pixels for figures that compare;
#                python -m tools.thin_capture makes one small enough to carry
# --wheels DIR   packages that the interpreter lacks (gsplat, geoopt, lpips, plyfile, fussim, ...): the wheels in this
#                folder are installed, for this call alone, without a network
# --out DIR      where figures (JSON, each row as it comes), log.txt and summary.txt go (default: $OUT, else gpu-figures)
# PYTHON=...     the interpreter (default: .venv/bin/python)
#
# A part that fails or takes too long does not stop the others; the exit status is 1 if any failed, 2 for wrong arguments.
set -u

declare -A GROUPS_OF=(
    [A]="gsplat contract"
    [B]="gsplat kernels playback playback_headgas playback_gaussianhead playback_exported playback_compiled"
    [C]="gsplat kernels renderer blending fitting batches fit"
)
# Seconds at most. Each call is its own, possibly on a fresh machine: gsplat is compiled (once) and numba's kernels are
# compiled before anything is timed.
declare -A LIMIT=(
    [gsplat]=120 [contract]=420 [kernels]=80
    [playback]=120 [playback_headgas]=40 [playback_gaussianhead]=50 [playback_exported]=40 [playback_compiled]=100
    [renderer]=40 [blending]=30 [fitting]=60 [batches]=60 [fit]=150
)

fail() { echo "gpu.sh: $1" >&2; exit 2; }
usage="usage: benchmarks/gpu.sh [--capture DIR] [--wheels DIR] [--out DIR] A|B|C|PART ... (--list shows the parts)"

capture="" wheels="" folder=${OUT:-gpu-figures} parts=()
while [ $# -gt 0 ]; do
    case $1 in
        --capture | --wheels | --out)
            [ $# -ge 2 ] || fail "$1: expected a folder"
            case $1 in
                --capture) capture=$2 ;;
                --wheels) wheels=$2 ;;
                --out) folder=$2 ;;
            esac
            shift 2
            ;;
        --list)
            for group in A B C; do
                for name in ${GROUPS_OF[$group]}; do echo "$group $name ${LIMIT[$name]}"; done
            done
            exit 0
            ;;
        "" | -*) fail "$1: unknown; $usage" ;;
        *)
            found=${GROUPS_OF[$1]:-}
            [ -n "$found" ] || { [ -n "${LIMIT[$1]:-}" ] && found=$1; } || fail "$1: no part of this name; $usage"
            for name in $found; do [[ " ${parts[*]:-} " == *" $name "* ]] || parts+=("$name"); done
            shift
            ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || fail "$usage"
if [[ " ${parts[*]} " == *" fit "* ]]; then
    [ -n "$capture" ] || fail "fit: --capture DIR is needed: a folder that likeness preprocess or tools.thin_capture wrote"
fi
if [ -n "$capture" ]; then
    [ -f "$capture/manifest.json" ] || fail "--capture $capture: not a capture (no manifest.json in it)"
    capture=$(realpath "$capture")
fi
if [ -n "$wheels" ]; then
    ls "$wheels"/*.whl > /dev/null 2>&1 || fail "--wheels $wheels: no wheels (*.whl) there"
    wheels=$(realpath "$wheels")
fi
folder=$(realpath -m "$folder")
python=${PYTHON:-.venv/bin/python}
case $python in */*) [[ $python == /* ]] || [ ! -x "$python" ] || python=$PWD/$python ;; esac
cd "$(dirname "$0")/.." || exit 2
command -v "$python" > /dev/null || fail "PYTHON=$python: no such interpreter; run make setup, or name another"
temporary=$(mktemp -d) || exit 2
trap 'rm -rf "$temporary"' EXIT

mkdir -p "$folder" || fail "--out $folder: cannot be made"
log=$folder/log.txt
: > "$log" && : > "$folder/summary.txt" || fail "--out $folder: cannot be written"
if [ -n "$wheels" ]; then
    "$python" -m pip install -q --no-index --no-deps --target "$temporary/site" "$wheels"/*.whl >> "$log" 2>&1 ||
        fail "--wheels $wheels: cannot be installed: $(tail -n 1 "$log")"
    export PYTHONPATH=$temporary/site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONUNBUFFERED=1 LIKENESS_OFFLINE=1
"$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>> "$log" || fail "no CUDA device was found"

failed=0
run() { # name, command
    local name=$1 begun=$SECONDS status=0
    shift
    echo "== $name" | tee -a "$log"
    timeout -k 5 "${LIMIT[$name]}" "$@" >> "$log" 2>&1 || status=$?  # as it comes: this call may be ended from outside
    tail -n 15 "$log"
    echo "$name: status $status after $((SECONDS - begun)) s" | tee -a "$folder/summary.txt"
    [ "$status" -eq 0 ] || failed=1
    return "$status"
}
playback() { # name, arguments
    run "$1" "$python" -m benchmarks.playback --sizes 512 --renderers gsplat --json "$folder/$1.json" "${@:2}"
}

for part in "${parts[@]}"; do
    case $part in
        gsplat)
            run gsplat "$python" -c "from likeness.renderers import create; create('gsplat', 'cuda').warm_up()" ||
                fail "gsplat does not work here: see $log"
            ;;
        contract)
            # Only files with such tests: others may need packages that this machine lacks.
            mapfile -t tests < <(grep -rl --include='test_*.py' 'pytest\.mark\.gpu' tests | sort)
            run contract "$python" -m pytest -q -rs -m gpu --durations 10 -p no:cacheprovider "${tests[@]}"
            ;;
        kernels) # a small player, and where there is a capture a short fit, compile what they need, and keep it
            if [ -n "$capture" ]; then
                run kernels "$python" fit_subject.py --capture "$capture" --preset default --iterations 3 --device cuda \
                    --offline --out "$temporary/short"
            else
                run kernels "$python" -m benchmarks.playback --gaussians 200 --sizes 64 --seconds 0 --renderers gsplat
            fi
            ;;
        playback) playback playback --gaussians 20000 50000 100000 --evaluations torch graph fused --seconds 2 ;;
        playback_headgas) playback playback_headgas --preset headgas --evaluations torch graph --seconds 2 ;;
        playback_gaussianhead) playback playback_gaussianhead --preset gaussianhead --evaluations torch graph --seconds 2 ;;
        playback_exported) playback playback_exported --exported --evaluations torch graph fused --seconds 2 ;;
        playback_compiled) playback playback_compiled --evaluations compiled --seconds 2 ;;
        renderer) run renderer "$python" -m benchmarks.renderer --device cuda --json "$folder/renderer.json" ;;
        blending) run blending "$python" -m benchmarks.blending --device cuda --json "$folder/blending.json" ;;
        fitting)
            run fitting "$python" -m benchmarks.fitting --device cuda --presets headgas gaussianhead default --seconds 4 \
                --json "$folder/fitting.json"
            ;;
        batches)
            run batches "$python" -m benchmarks.fitting --device cuda --presets default headgas --batch 1 4 8 \
                --seconds 2 --json "$folder/batches.json"
            ;;
        fit)
            run fit "$python" fit_subject.py --capture "$capture" --preset default --minutes 1 --device cuda --offline \
                --out "$temporary/run"
            for name in metrics.json log.jsonl; do
                [ -f "$temporary/run/$name" ] && cp "$temporary/run/$name" "$folder/fit_$name"
            done
            ;;
    esac
done
exit "$failed"
