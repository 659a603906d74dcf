#!/usr/bin/env bash
# Many subjects on a Slurm cluster: an array with one job for each subject of a list, preprocessing on machines without
# a GPU, fits on machines with one. The folders of this program, of the videos and of the results must be shared by all
# machines. From the folder of this program:
#
#   docs/slurm_array.sh subjects.txt runs/all                 # submits both arrays
#   python fit_subject.py --list subjects.txt --out runs/all  # when they are through: what failed is done again,
#                                                             # then the summary of all
#
# Options behind the two arguments go to fit_subject.py; a job that is killed or runs out of time resumes when the same
# is submitted again, and what is finished is skipped. PYTHON, PREPROCESS_FLAGS and FIT_FLAGS may be set (partition,
# account, time; see below); SBATCH too, to try this without Slurm (SBATCH=echo).
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "error: expected a list and a folder: docs/slurm_array.sh subjects.txt runs/all [options of fit_subject.py]" >&2
    exit 2
fi
list=$1 out=$2
shift 2
python=${PYTHON:-.venv/bin/python}
sbatch=${SBATCH:-sbatch}
# Subjects are the lines that are neither empty nor comments; --only K takes the K-th of them.
subjects=$(grep -cvE '^[[:space:]]*(#|$)' "$list") || { echo "error: $list: cannot be read, or holds no subject" >&2; exit 2; }

submit() { # stage, flags of sbatch
    local stage=$1
    shift
    "$sbatch" --parsable --job-name "$stage" --array "1-$subjects" --output "$out/slurm-%x-%a.out" "$@" \
        --wrap "exec $python fit_subject.py --list $(printf %q "$list") --out $(printf %q "$out") --stage $stage --only \$SLURM_ARRAY_TASK_ID --threads \$SLURM_CPUS_PER_TASK $extra"
}
extra=$([ $# -eq 0 ] || printf '%q ' "$@")

mkdir -p "$out"
# Four cores and 4 GB serve both halves (measured: docs/clusters.md); --signal lets a fit save itself
# a minute before its time is up.
# shellcheck disable=SC2086
first=$(submit preprocess --cpus-per-task 4 --mem 4G --time 01:00:00 ${PREPROCESS_FLAGS:-})
# aftercorr: the fit of each subject waits for the preprocessing of that one alone.
# shellcheck disable=SC2086
submit fit --cpus-per-task 4 --mem 4G --gres gpu:1 --time 01:00:00 --signal B:TERM@60 \
    --dependency "aftercorr:${first%%;*}" ${FIT_FLAGS:-}
