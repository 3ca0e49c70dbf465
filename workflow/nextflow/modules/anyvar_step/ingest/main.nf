// Registers the alleles of one VCF that carries VRS fields already; the task waits until its run has ended.
// No output is a VCF, so no output can have the input's name.

process ANYVAR_STEP_INGEST {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(vcf)

    output:
    tuple val(meta), path("${prefix}.conflicts.csv"), emit: conflicts
    tuple val(meta), path("${prefix}.json"), emit: report
    path 'versions.yml', emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    anyvar-step ingest \\
        ${vcf} \\
        --conflicts ${prefix}.conflicts.csv \\
        --report ${prefix}.json \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo 'vrs_id,assembly,chrom,pos,start,end,state,new_vrs_id' > ${prefix}.conflicts.csv
    echo '{}' > ${prefix}.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """
}
