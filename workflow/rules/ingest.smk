# Registers the alleles of an annotated VCF in the workers' store: of the one that this workflow makes, or,
# where ingest is the only step, of the sheet's own.


rule ingest:
    input:
        vcf=(
            "results/annotated/{sample}.vcf.gz"
            if "annotate" in config["steps"]
            else vcf_of
        ),
    output:
        **conflict_log(),
        registered="results/registered/{sample}.json",
    log:
        "logs/ingest/{sample}.log",
    benchmark:
        "benchmarks/ingest/{sample}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=config["annotate"]["timeout_minutes"] + 10,
        anyvar_slots=1,
        anyvar_minutes=config["annotate"]["timeout_minutes"],
        anyvar_outage=config["annotate"]["outage_seconds"],
        anyvar_retries=config["annotate"]["retries"],
    params:
        assembly=config["assembly"],
        validation=lambda wildcards, output: (
            ["--require-validation", "--conflicts", output.conflicts]
            if config["ingest"]["require_validation"]
            else []
        ),
    shell:
        "anyvar-step ingest {input.vcf:q} --report {output.registered:q} --assembly {params.assembly}"
        " {params.validation:q} --timeout {resources.anyvar_minutes}m"
        " --outage {resources.anyvar_outage}s --retries {resources.anyvar_retries} 2> {log:q}"
