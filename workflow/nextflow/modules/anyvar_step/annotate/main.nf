// Annotates one VCF with GA4GH VRS identifiers; the task waits until its run on the workers has ended.

process ANYVAR_STEP_ANNOTATE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(vcf)

    output:
    tuple val(meta), path("${prefix}.vcf.gz"), emit: vcf
    tuple val(meta), path("${prefix}.vcf.gz.tbi"), emit: tbi
    tuple val(meta), path("${prefix}.json"), emit: report
    path 'versions.yml', emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    if (vcf.name == "${prefix}.vcf.gz") {
        error("input and output are both named ${vcf.name}: set task.ext.prefix")
    }
    """
    anyvar-step annotate \\
        ${vcf} \\
        --output ${prefix}.vcf.gz \\
        --write-index \\
        --report ${prefix}.json \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    if (vcf.name == "${prefix}.vcf.gz") {
        error("input and output are both named ${vcf.name}: set task.ext.prefix")
    }
    """
    echo '' | gzip > ${prefix}.vcf.gz
    touch ${prefix}.vcf.gz.tbi
    echo '{}' > ${prefix}.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """
}
