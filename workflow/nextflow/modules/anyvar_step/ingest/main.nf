// Registers the alleles of one VCF that has VRS fields already; the task waits until its run has ended.
// No output is a VCF, so no output can have the input's name.

process ANYVAR_STEP_INGEST {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'docker-daemon:anyvar-step:1.1.0'
        : 'anyvar-step:1.1.0'}"

    input:
    tuple val(meta), path(vcf)

    output:
    tuple val(meta), path("${prefix}.conflicts.csv"), emit: conflicts
    tuple val(meta), path("${prefix}.json"), emit: report
    tuple val("${task.process}"), val('anyvar-step'), eval("anyvar-step --version | sed 's/^anyvar-step //; s/ .*//'"), topic: versions, emit: versions_anyvar_step

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def named = args.tokenize().find { word -> word ==~ /(--conflicts|--report)(=.*)?/ }
    if (named) {
        error("ext.args: ${named}: the module names its outputs itself, by ext.prefix")
    }
    """
    anyvar-step ingest \\
        ${vcf} \\
        --conflicts ${prefix}.conflicts.csv \\
        --report ${prefix}.json \\
        ${args}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo 'vrs_id,assembly,chrom,pos,start,end,state,new_vrs_id' > ${prefix}.conflicts.csv
    echo '{}' > ${prefix}.json
    """
}
