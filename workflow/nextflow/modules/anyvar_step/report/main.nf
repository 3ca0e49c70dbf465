// Makes one page of the reports of many runs, and sections that MultiQC finds by their names. The samples of `failed`
// have no report; the page and MultiQC show them first.

process ANYVAR_STEP_REPORT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'docker-daemon:anyvar-step:1.1.0'
        : 'anyvar-step:1.1.0'}"

    input:
    tuple val(meta), val(samples), path(reports, stageAs: 'staged/?/*'), val(failed)

    output:
    tuple val(meta), path("${prefix}.html"), emit: page
    tuple val(meta), path('multiqc'), emit: multiqc
    tuple val("${task.process}"), val('anyvar-step'), eval("anyvar-step --version | sed 's/^anyvar-step //; s/ .*//'"), topic: versions, emit: versions_anyvar_step

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def named = args.tokenize().find { word -> word ==~ /(-o.*|--output|--multiqc)(=.*)?/ }
    if (named) {
        error("ext.args: ${named}: the module names its outputs itself, by ext.prefix")
    }
    def files = reports instanceof List ? reports : [reports]
    // The page takes a sample's name from the file name of its report.
    def links = [files, samples].transpose().collect { file, sample -> "ln -s '../${file}' 'runs/${sample}.json'" }
    def runs = samples.collect { sample -> "'runs/${sample}.json'" }
    def without = failed.collect { sample -> "--failed '${sample}'" }
    """
    mkdir runs
    ${links.join('\n    ')}
    anyvar-step report \\
        ${(runs + without).join(' ')} \\
        --output ${prefix}.html \\
        --multiqc multiqc \\
        ${args}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.html
    mkdir multiqc
    echo '{}' > multiqc/general_anyvar_step_mqc.json
    """
}
