# Annotates a VCF in pieces of the genome and puts them together again: the same records in the same order,
# byte for byte, as without. The pieces are cut by the VCF's index and hold about as many records each.


PIECES = [
    f"{number}-of-{config['annotate']['pieces']}"
    for number in range(1, config["annotate"]["pieces"] + 1)
]


wildcard_constraints:
    piece=r"\d+-of-\d+",


rule cut:
    input:
        vcf=vcf_of,
        index=index_of,
    output:
        vcf=temp("results/pieces/cut/{sample}/{piece}.vcf.gz"),
    log:
        "logs/cut/{sample}/{piece}.log",
    benchmark:
        "benchmarks/cut/{sample}/{piece}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    script:
        "../scripts/cut.py"


rule gather:
    input:
        vcf=vcf_of,
        pieces=expand(
            "results/pieces/annotated/{{sample}}/{piece}.vcf.gz", piece=PIECES
        ),
        reports=expand("results/pieces/reports/{{sample}}/{piece}.json", piece=PIECES),
    output:
        vcf="results/annotated/{sample}.vcf.gz",
        index="results/annotated/{sample}.vcf.gz.tbi",
        report=shown("results/reports/{sample}.json"),
    log:
        "logs/gather/{sample}.log",
    benchmark:
        "benchmarks/gather/{sample}.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    script:
        "../scripts/gather.py"
