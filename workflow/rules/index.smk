# Prepares the reference once, so that no two workers index the same FASTA at the same time.


rule index_reference:
    input:
        fasta=local(config["reference"]) if config["reference"] else [],
    output:
        table="results/reference/{assembly}.tsv",
    log:
        "logs/index_reference/{assembly}.log",
    benchmark:
        "benchmarks/index_reference/{assembly}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    shell:
        "anyvar-step reference --assembly {wildcards.assembly} {input.fasta:q}"
        " > {output.table:q} 2> {log:q}"
