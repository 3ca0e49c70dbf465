# Submits first and waits later: a job hands the VCF over and ends, and a rule on Snakemake's own host waits,
# so that no cluster slot is held by a process that only waits.
#
# The ticket names the run. Whatever happens to a wait, the run goes on and the ticket stays: the next call
# of Snakemake waits for the same run. Where that run was lost or cancelled, or its result has expired, the VCF
# is submitted again.


rule submit:
    input:
        vcf=unit_of,
        reference=reference_table,
    output:
        ticket=temp(f"results/tickets/{UNIT}.json"),
    log:
        f"logs/submit/{UNIT}.log",
    benchmark:
        f"benchmarks/submit/{UNIT}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=30,
    params:
        request=request,
    shell:
        "anyvar-step submit {input.vcf:q} --ticket {output.ticket:q} {params.request:q} > {log:q} 2>&1"


# No thread of its own: `--resources anyvar_slots=…` alone bounds how many wait at once.
rule wait:
    input:
        vcf=unit_of,
        ticket=f"results/tickets/{UNIT}.json",
    output:
        vcf=unit_made(f"{MADE}/annotated/{UNIT}.vcf.gz"),
        index=unit_made(f"{MADE}/annotated/{UNIT}.vcf.gz.tbi"),
        report=unit_report(f"{MADE}/reports/{UNIT}.json"),
    log:
        f"logs/wait/{UNIT}.log",
    benchmark:
        f"benchmarks/wait/{UNIT}.tsv"
    localrule: True
    conda:
        "../envs/anyvar-step.yaml"
    threads: 0
    resources:
        anyvar_slots=1,
        anyvar_minutes=config["annotate"]["timeout_minutes"],
        anyvar_outage=config["annotate"]["outage_seconds"],
        anyvar_retries=config["annotate"]["retries"],
    params:
        request=request,
    shell:
        """
        exec 2>{log:q}
        for left in $(seq {resources.anyvar_retries} -1 0); do
            case "$(anyvar-step status {input.ticket:q})" in
                *": 404 "* | *" REVOKED"*)
                    anyvar-step submit {input.vcf:q} --ticket {input.ticket:q} {params.request:q} >&2
                    ;;
            esac
            code=0
            anyvar-step wait {input.ticket:q} --timeout {resources.anyvar_minutes}m \
                --outage {resources.anyvar_outage}s \
                && anyvar-step collect {input.ticket:q} -o {output.vcf:q} --report {output.report:q} \
                || code=$?
            case $code:$left in
                69:[1-9]* | 74:[1-9]* | 75:[1-9]*) ;;
                124:*)
                    anyvar-step cancel {input.ticket:q}
                    exit $code
                    ;;
                *) exit $code ;;
            esac
        done
        """
