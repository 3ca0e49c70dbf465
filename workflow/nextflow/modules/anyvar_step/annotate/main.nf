// Annotates one VCF with GA4GH VRS identifiers; the task waits until its run on the workers has ended.

process ANYVAR_STEP_ANNOTATE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${workflow.containerEngine in ['singularity', 'apptainer'] && !task.ext.singularity_pull_docker_container
        ? 'docker-daemon:anyvar-step:1.1.0'
        : 'anyvar-step:1.1.0'}"

    input:
    tuple val(meta), path(vcf)

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
    prefix = task.ext.prefix ?: "${meta.id}"
    extension = outputExtension(args)
    if (vcf.name == "${prefix}.${extension}") {
        error("input and output are both named ${vcf.name}: set task.ext.prefix")
    }
    """
    anyvar-step annotate \\
        ${vcf} \\
        --output ${prefix}.${extension} \\
        --report ${prefix}.json \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    extension = outputExtension(args)
    if (vcf.name == "${prefix}.${extension}") {
        error("input and output are both named ${vcf.name}: set task.ext.prefix")
    }
    def output = "${prefix}.${extension}"
    def create = output.endsWith('.gz') ? "gzip > ${output}" : "cat > ${output}"
    """
    echo "" | ${create}
    touch ${stubFiles(args, output).join(' ')} ${prefix}.json
    """
}

// The extension of the output, from -O or --output-type in ext.args. Stops the task, with the reason, where an option names
// a file that the module would not find.
def outputExtension(args) {
    def named = args.tokenize().find { word -> word ==~ /-o.*|--(output|report)(=.*)?/ }
    if (named) {
        error("ext.args: ${named}: the module names its outputs itself, by ext.prefix")
    }
    (args =~ /(?:^|\s)--(ndjson|tsv)(?:=|\s+)(\S+)/).each { _option, kind, value ->
        def name = value.replaceAll(/^['"]|['"]$/, '')
        if (!name.endsWith(".${kind}") || name.contains('/')) {
            error("ext.args: --${kind} ${name}: the module finds only a file name that ends with .${kind}, without a directory")
        }
    }
    def type = outputType(args)
    if (!(type ==~ /[vu]|[zb]\d{0,2}/)) {
        error("ext.args: -O ${type}: anyvar-step writes v (text), z (BGZF), b or u (BCF); z and b take a level")
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
