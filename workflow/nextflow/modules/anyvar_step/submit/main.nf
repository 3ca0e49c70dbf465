// Submits one VCF to the workers and returns at once, with a ticket for the run.

process ANYVAR_STEP_SUBMIT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'docker-daemon:anyvar-step:1.1.0'
        : 'anyvar-step:1.1.0'}"

    input:
    tuple val(meta), path(vcf)

    output:
    tuple val(meta), path("${prefix}.ticket"), emit: ticket
    tuple val("${task.process}"), val('anyvar-step'), eval("anyvar-step --version | sed 's/^anyvar-step //; s/ .*//'"), topic: versions, emit: versions_anyvar_step

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def named = args.tokenize().find { word -> word ==~ /(--ticket)(=.*)?/ }
    if (named) {
        error("ext.args: ${named}: the module names its outputs itself, by ext.prefix")
    }
    """
    anyvar-step submit \\
        ${vcf} \\
        --ticket ${prefix}.ticket \\
        ${args}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo '{}' > ${prefix}.ticket
    """
}
