# Annotates one VCF. The index comes with the VCF: it is made after it and is never older.
#
# --retries starts again after the failures that may pass (exit codes 69, 74 and 75); Snakemake's own retries would
# repeat every failure. The job waits for workers, so it needs little itself; `--resources anyvar_slots=20` bounds how
# many wait at once. The time limits are resources and no params: changing them does not make finished results out of
# date. With annotate.pieces, the step itself cuts the VCF, submits the pieces and joins what they give, and judges the
# assembly of the whole.


rule annotate:
    input:
        vcf=vcf_of,
        reference=reference_table,
    output:
        vcf="results/annotated/{sample}.vcf.gz",
        index="results/annotated/{sample}.vcf.gz.tbi",
        report=shown("results/reports/{sample}.json"),
    log:
        "logs/annotate/{sample}.log",
    benchmark:
        "benchmarks/annotate/{sample}.tsv"
    # With submit_first a VCF in pieces waits on Snakemake's own host, too: a ticket names one run, not several.
    localrule: config["annotate"]["submit_first"]
    conda:
        "../envs/anyvar-step.yaml"
    threads: 0 if config["annotate"]["submit_first"] else 1
    resources:
        mem_mb=2000 if config["local"] else 500,
        runtime=config["annotate"]["timeout_minutes"] + 10,
        anyvar_slots=1,
        anyvar_chunks=config["annotate"]["pieces"],
        anyvar_minutes=config["annotate"]["timeout_minutes"],
        anyvar_outage=config["annotate"]["outage_seconds"],
        anyvar_retries=config["annotate"]["retries"],
    params:
        request=request(),
        servers=servers(),
    shell:
        "anyvar-step annotate {input.vcf:q} -o {output.vcf:q} --report {output.report:q}"
        " {params.request:q} {params.servers:q} --chunks {resources.anyvar_chunks}"
        " --timeout {resources.anyvar_minutes}m --outage {resources.anyvar_outage}s"
        " --retries {resources.anyvar_retries} 2> {log:q}"
