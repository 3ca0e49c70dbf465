// Hands one VCF to the workers and returns at once, with a ticket for the run.

process ANYVAR_STEP_SUBMIT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(vcf)

    output:
    tuple val(meta), path("${prefix}.ticket"), emit: ticket
    path 'versions.yml', emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    anyvar-step submit \\
        ${vcf} \\
        --ticket ${prefix}.ticket \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo '{}' > ${prefix}.ticket

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """
}
