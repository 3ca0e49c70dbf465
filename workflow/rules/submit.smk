# Submits first and waits later: a job submits the VCF and ends, and a rule on Snakemake's own host waits, so that no
# process that only waits holds a slot of the cluster.
#
# The ticket names the run. When a wait ends early, the run goes on and the ticket stays: the next call of Snakemake
# waits for the same run. Where that run was lost or cancelled, or its result has expired, the VCF is submitted again.


rule submit:
    input:
        vcf=vcf_of,
        reference=reference_table,
    output:
        ticket=temp("results/tickets/{sample}.json"),
    log:
        "logs/submit/{sample}.log",
    benchmark:
        "benchmarks/submit/{sample}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=30,
    params:
        request=request(),
    shell:
        "anyvar-step submit {input.vcf:q} --ticket {output.ticket:q} {params.request:q} > {log:q} 2>&1"


# No thread of its own: `--resources anyvar_slots=…` alone bounds how many wait at once.
rule wait:
    input:
        vcf=vcf_of,
        ticket="results/tickets/{sample}.json",
    output:
        vcf="results/annotated/{sample}.vcf.gz",
        index="results/annotated/{sample}.vcf.gz.tbi",
        report=shown("results/reports/{sample}.json"),
    log:
        "logs/wait/{sample}.log",
    benchmark:
        "benchmarks/wait/{sample}.tsv"
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
        request=request(),
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
