# Annotates one VCF. The index comes with the VCF: it is made last and is never older than its data.
#
# Only failures that may pass are worth a second start (exit codes 69, 74 and 75), and Snakemake's own retries
# would repeat the others too: --retries does it by exit code. The job waits for a worker, so it needs little
# itself; `--resources anyvar_slots=20` bounds how many wait at once. What bounds the wait stands among the
# resources, not the params: to change it does not make finished results out of date.


rule annotate:
    input:
        vcf=unit_of,
        reference=reference_table,
    output:
        vcf=unit_made(f"{MADE}/annotated/{UNIT}.vcf.gz"),
        index=unit_made(f"{MADE}/annotated/{UNIT}.vcf.gz.tbi"),
        report=unit_report(f"{MADE}/reports/{UNIT}.json"),
    log:
        f"logs/annotate/{UNIT}.log",
    benchmark:
        f"benchmarks/annotate/{UNIT}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=2000 if config["local"] else 500,
        runtime=config["annotate"]["timeout_minutes"] + 10,
        anyvar_slots=1,
        anyvar_minutes=config["annotate"]["timeout_minutes"],
        anyvar_outage=config["annotate"]["outage_seconds"],
        anyvar_retries=config["annotate"]["retries"],
    params:
        request=request,
        servers=servers(),
    shell:
        "anyvar-step annotate {input.vcf:q} -o {output.vcf:q} --report {output.report:q}"
        " {params.request:q} {params.servers:q} --timeout {resources.anyvar_minutes}m"
        " --outage {resources.anyvar_outage}s --retries {resources.anyvar_retries} 2> {log:q}"
