// Puts the reports of many runs together: a page for people, and sections that MultiQC finds by their names.
// Samples without a report are named in `failed`, and stand on top of both.

process ANYVAR_STEP_REPORT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), val(samples), path(reports, stageAs: 'staged/?/*'), val(failed)

    output:
    tuple val(meta), path("${prefix}.html"), emit: page
    tuple val(meta), path('multiqc'), emit: multiqc
    path 'versions.yml', emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def files = reports instanceof List ? reports : [reports]
    // A sample is called what its report's file is called.
    def links = [files, samples].transpose().collect { file, sample -> "ln -s '../${file}' 'runs/${sample}.json'" }
    def runs = samples.collect { "'runs/${it}.json'" }
    def without = failed.collect { "--failed '${it}'" }
    """
    mkdir runs
    ${links.join('\n    ')}
    anyvar-step report \\
        ${(runs + without).join(' ')} \\
        --output ${prefix}.html \\
        --multiqc multiqc \\
        ${args}

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch ${prefix}.html
    mkdir multiqc
    echo '{}' > multiqc/general_anyvar_step_mqc.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """
}
