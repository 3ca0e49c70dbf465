# One page on all samples, for people, and the sections that MultiQC finds by their names.


localrules:
    summary,  # a second's work, no job of its own


rule summary:
    input:
        reports(),
    output:
        page=report(
            "results/summary.html",
            caption="../report/summary.rst",
            category="VRS annotation",
            labels={"sample": "all samples"},
        ),
        multiqc=directory("results/multiqc"),
    log:
        "logs/summary.log",
    benchmark:
        "benchmarks/summary.tsv"
    conda:
        "../envs/anyvar-step.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    shell:
        "anyvar-step report {input:q} -o {output.page:q} --multiqc {output.multiqc:q} 2> {log:q}"
