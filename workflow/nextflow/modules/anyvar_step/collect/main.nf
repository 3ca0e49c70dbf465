// Waits for a submitted run and fetches its output. A run that does not end in time (exit code 124) is cancelled.
// A ticket can be older than its run (cancelled, expired before the task was resumed, lost with its worker): then
// the VCF is annotated as if it came without one.

process ANYVAR_STEP_COLLECT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(vcf), path(ticket)

    output:
    tuple val(meta), path("${prefix}.vcf.gz"), emit: vcf
    tuple val(meta), path("${prefix}.vcf.gz.tbi"), emit: tbi
    tuple val(meta), path("${prefix}.json"), emit: report
    path 'versions.yml', emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def args2 = task.ext.args2 ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    if (vcf.name == "${prefix}.vcf.gz") {
        error("input and output are both named ${vcf.name}: set task.ext.prefix")
    }
    """
    status=0
    case "\$(anyvar-step status ${ticket})" in
        *" REVOKED"*) status=75 ;;
        *) anyvar-step wait ${ticket} ${args} || status=\$? ;;
    esac
    if [ \$status -eq 0 ]; then
        anyvar-step collect \\
            ${ticket} \\
            --output ${prefix}.vcf.gz \\
            --write-index \\
            --report ${prefix}.json || status=\$?
    fi
    if [ \$status -eq 75 ]; then
        anyvar-step annotate \\
            ${vcf} \\
            --output ${prefix}.vcf.gz \\
            --write-index \\
            --report ${prefix}.json \\
            ${args} ${args2}
    elif [ \$status -ne 0 ]; then
        [ \$status -ne 124 ] || anyvar-step cancel ${ticket} || true
        exit \$status
    fi

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        anyvar-step: \$(anyvar-step --version | sed 's/^anyvar-step //; s/ .*//')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
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
