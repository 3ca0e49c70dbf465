#!/usr/bin/env bash
# A pilot under LSF, PBS or Grid Engine (Slurm: workflow/slurm): one worker with a process per core, as a job of its own:
#
#   bsub -J "anyvar-worker[1-4]" < worker.sh
#   qsub -J 1-4 -V worker.sh                      (PBS)
#   qsub -t 1-4 -V worker.sh                      (Grid Engine)
#
# OPTIONS in the environment are those of `anyvar-step worker`. It ends when it has had nothing to do for ten minutes. In
# the last hour of its time it takes nothing new (--max-lifetime). At SIGUSR2 it takes nothing new, hands back what it has
# reserved and finishes what is at work. SIGTERM goes to all its processes and ends what is at work; another worker
# attempts that again.
#
# LSF: SIGUSR2 ten minutes before the run limit. bkill sends SIGINT and SIGTERM; `bkill -s USR2 JOB` lets it finish.
#BSUB -n 4
#BSUB -R span[hosts=1]
#BSUB -W 12:00
#BSUB -wa USR2
#BSUB -wt 10
#BSUB -o anyvar-worker-%J-%I.log
# PBS: qdel sends SIGTERM, then SIGKILL after kill_delay (10 s); `qsig -s SIGUSR2 JOB` lets it finish.
#PBS -N anyvar-worker
#PBS -l select=1:ncpus=4:mem=4gb
#PBS -l walltime=12:00:00
#PBS -j oe
# Grid Engine: SIGUSR2 a while (the queue's `notify`, 60 s) before SIGKILL. The parallel environment is the site's.
#$ -N anyvar-worker
#$ -cwd
#$ -pe smp 4
#$ -notify
#$ -l h_rt=12:00:00
#$ -j y
set -euo pipefail

cd "${PBS_O_WORKDIR:-.}"
read -ra options <<<"${OPTIONS:-}"
cores=${LSB_DJOB_NUMPROC:-${NCPUS:-${NSLOTS:-1}}}

# These schedulers signal all processes of a job. At SIGUSR2 this shell alone sends SIGTERM to the worker, not to the
# processes that annotate. Other signals reach all of them, and this shell waits for the worker's end.
(
    trap '' USR1 USR2
    exec anyvar-step worker --concurrency "$cores" --name "anyvar-step-${LSB_JOBID:-${PBS_JOBID:-${JOB_ID:-$$}}}@%h" \
        --idle-timeout 10m --max-lifetime 11h ${options[@]+"${options[@]}"}
) &
worker=$!
trap : INT TERM USR1
trap 'kill -TERM "$worker"' USR2
status=0
while kill -0 "$worker" 2>/dev/null; do
    status=0
    wait "$worker" || status=$?
done
exit "$status"
