#!/usr/bin/env bash
# Annotates the VCFs of a list, one per array task, under LSF, PBS or Grid Engine (Slurm: workflow/slurm):
#
#   export LIST=vcfs.txt OUTDIR=results OPTIONS='--attributes'
#   bsub -J "anyvar[1-N]%20" < annotate.sh
#   qsub -J 1-N%20 -v LIST,OUTDIR,OPTIONS annotate.sh                (PBS)
#   qsub -t 1-N -tc 20 -v LIST,OUTDIR,OPTIONS annotate.sh            (Grid Engine)
#
# LIST has one path per line; OUTDIR/NAME.vcf.gz with index and report are written, where NAME is the file's name without
# .vcf, .vcf.gz, .vcf.bgz or .bcf, and no two of the list may have the same. OPTIONS are those of `anyvar-step annotate`,
# without quotes or blanks in their values. A task that waits needs next to nothing.
#
# LSF: SIGTERM two minutes before the run limit; started again where its host is lost.
#BSUB -n 1
#BSUB -M 500
#BSUB -W 4:00
#BSUB -wa TERM
#BSUB -wt 2
#BSUB -r
#BSUB -o anyvar-annotate-%J-%I.log
# PBS: SIGTERM at qdel and at the end of walltime, SIGKILL after kill_delay (10 s).
#PBS -N anyvar-annotate
#PBS -l select=1:ncpus=1:mem=500mb
#PBS -l walltime=04:00:00
#PBS -r y
#PBS -j oe
# Grid Engine: SIGUSR2 a while (the queue's `notify`, 60 s) before SIGKILL.
#$ -N anyvar-annotate
#$ -cwd
#$ -V
#$ -notify
#$ -r y
#$ -l h_rt=04:00:00
#$ -j y
set -euo pipefail

cd "${PBS_O_WORKDIR:-.}"
list=${LIST:?LIST is not set: a file with one path per line}
outdir=${OUTDIR:?OUTDIR is not set: the directory of the outputs}
read -ra options <<<"${OPTIONS:-}"
task=${LSB_JOBINDEX:-${PBS_ARRAY_INDEX:-${SGE_TASK_ID:?submit it as an array}}}

vcf=$(sed -n "${task}p" "$list")
if [ -z "$vcf" ]; then
    echo "annotate.sh: $list has no line $task" >&2
    exit 66
fi
names=$(sed -E 's|.*/||; s/\.b?gz$//; s/\.[bv]cf$//' "$list")
name=$(sed -n "${task}p" <<<"$names")
same=$(grep --line-number --line-regexp --fixed-strings -e "$name" <<<"$names" | cut -d: -f1)
if [ "$same" != "$task" ]; then
    echo "annotate.sh: these lines of $list would all be written to $outdir/$name.vcf.gz:" >&2
    for line in $same; do sed -n "${line}p" "$list"; done >&2
    exit 65
fi
mkdir -p "$outdir"

# These schedulers signal all processes of a job. At SIGUSR2 this shell sends SIGTERM to the step, which ignores SIGUSR2.
# Other signals reach the step, too, and this shell waits for its clean-up.
(
    trap '' USR1 USR2
    exec anyvar-step annotate "$vcf" --output "$outdir/$name.vcf.gz" --report "$outdir/$name.json" --retries 3 \
        ${options[@]+"${options[@]}"}
) &
step=$!
trap : INT TERM USR1
trap 'kill -TERM "$step"' USR2
status=0
while kill -0 "$step" 2>/dev/null; do
    status=0
    wait "$step" || status=$?
done
exit "$status"
