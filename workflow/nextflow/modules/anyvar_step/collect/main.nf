// Waits for a submitted run and fetches its output. A run that does not end in time (exit code 124) is cancelled.
// The run of a ticket can be gone: cancelled, expired before the task was resumed, or lost with its worker. Then the
// VCF is annotated again.
//
// ext.args: options of `anyvar-step wait`; ext.args2: the options that `submit` had; ext.args3: options of the output
// (-O, --csi, --ndjson, --tsv).

process ANYVAR_STEP_COLLECT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'docker-daemon:anyvar-step:1.1.0'
        : 'anyvar-step:1.1.0'}"

    input:
    tuple val(meta), path(vcf), path(ticket)

    output:
    tuple val(meta), path("${prefix}.${extension}"), emit: vcf
    tuple val(meta), path("${prefix}.${extension}.tbi"), emit: tbi, optional: true
    tuple val(meta), path("${prefix}.${extension}.csi"), emit: csi, optional: true
    tuple val(meta), path('*.ndjson'), emit: ndjson, optional: true
    tuple val(meta), path('*.tsv'), emit: tsv, optional: true
    tuple val(meta), path("${prefix}.json"), emit: report
    tuple val("${task.process}"), val('anyvar-step'), eval("anyvar-step --version | sed 's/^anyvar-step //; s/ .*//'"), topic: versions, emit: versions_anyvar_step

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def args2 = task.ext.args2 ?: ''
    def args3 = task.ext.args3 ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    extension = outputExtension(args3)
    if (vcf.name == "${prefix}.${extension}") {
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
            --output ${prefix}.${extension} \\
            --report ${prefix}.json \\
            ${args3} || status=\$?
    fi
    if [ \$status -eq 75 ]; then
        anyvar-step annotate \\
            ${vcf} \\
            --output ${prefix}.${extension} \\
            --report ${prefix}.json \\
            ${args} ${args2} ${args3}
    elif [ \$status -ne 0 ]; then
        [ \$status -ne 124 ] || anyvar-step cancel ${ticket} || true
        exit \$status
    fi
    """

    stub:
    def args3 = task.ext.args3 ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    extension = outputExtension(args3)
    if (vcf.name == "${prefix}.${extension}") {
        error("input and output are both named ${vcf.name}: set task.ext.prefix")
    }
    def output = "${prefix}.${extension}"
    def create = output.endsWith('.gz') ? "gzip > ${output}" : "cat > ${output}"
    """
    echo "" | ${create}
    touch ${stubFiles(args3, output).join(' ')} ${prefix}.json
    """
}

// The extension of the output, from -O or --output-type in ext.args3. Stops the task, with the reason, where an option names
// a file that the module would not find.
def outputExtension(args) {
    def named = args.tokenize().find { word -> word ==~ /-o.*|--(output|report)(=.*)?/ }
    if (named) {
        error("ext.args3: ${named}: the module names its outputs itself, by ext.prefix")
    }
    (args =~ /(?:^|\s)--(ndjson|tsv)(?:=|\s+)(\S+)/).each { _option, kind, value ->
        def name = value.replaceAll(/^['"]|['"]$/, '')
        if (!name.endsWith(".${kind}") || name.contains('/')) {
            error("ext.args3: --${kind} ${name}: the module finds only a file name that ends with .${kind}, without a directory")
        }
    }
    def type = outputType(args)
    if (!(type ==~ /[vu]|[zb]\d{0,2}/)) {
        error("ext.args3: -O ${type}: anyvar-step writes v (text), z (BGZF), b or u (BCF); z and b take a level")
    }
    return [v: 'vcf', z: 'vcf.gz', b: 'bcf', u: 'bcf'][type[0]]
}

// The value of the last -O or --output-type, as on the command line.
def outputType(args) {
    def types = (args =~ /(?:^|\s)(?:-O\s*|--output-type(?:=|\s+))['"]?([^\s'"]+)/).collect { found -> found[1] }
    return types ? types.last() : 'z'
}

// The other files that a stub makes: indexes and tables, as a run with these options makes them.
def stubFiles(args, output) {
    def words = args.tokenize()
    def files = (args =~ /(?:^|\s)--(?:ndjson|tsv)(?:=|\s+)(\S+)/).collect { found -> found[1] }
    def uncompressed = outputType(args) == 'u' && !words.any { word -> word in ['--csi', '--write-index'] }
    if (!output.endsWith('.vcf') && !words.contains('--no-write-index') && !uncompressed) {
        files << "${output}.${words.contains('--csi') || output.endsWith('.bcf') ? 'csi' : 'tbi'}"
    }
    return files
}
