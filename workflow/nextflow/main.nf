// Annotates the VCFs of a sample sheet with GA4GH VRS identifiers through AnyVar's Celery workers.
//
//   <outdir>/annotated/<sample>.vrs.vcf.gz(.tbi)   the annotated VCFs (BGZF) and their indexes
//   <outdir>/reports/<sample>.vrs.json             counts, timings and versions of each run
//   <outdir>/pipeline_info/versions.yml            the programs that made them
//
// Parameters: nextflow_schema.json; how to run it: docs/nextflow.md.

nextflow.enable.dsl = 2

include { ANYVAR_STEP_ANNOTATE    } from './modules/anyvar_step/annotate/main'
include { ANYVAR_STEP_INGEST      } from './modules/anyvar_step/ingest/main'
include { ANYVAR_STEP_SUBMIT_WAIT } from './subworkflows/anyvar_step/submit_wait/main'

workflow {
    if (params.help) {
        show_help()
    } else {
        check_parameters()
        ANNOTATE_SHEET(read_sheet())
    }
}

workflow ANNOTATE_SHEET {
    take:
    samples // list of [ meta, vcf ]

    main:
    ch_vcf = Channel.fromList(samples)
    if (params.ingest) {
        ch_versions = ANYVAR_STEP_INGEST(ch_vcf).versions
    } else if (params.submit_first) {
        ch_versions = ANYVAR_STEP_SUBMIT_WAIT(ch_vcf).versions
    } else {
        ch_versions = ANYVAR_STEP_ANNOTATE(ch_vcf).versions
    }
    ch_versions.unique { it.text }.collectFile(name: 'versions.yml', storeDir: "${params.outdir}/pipeline_info")
}

// The rows of the sample sheet as [ meta, vcf ]; an error names the sheet, the line and what is wrong.
def read_sheet() {
    def sheet = file(params.input)
    if (!sheet.isFile()) {
        error("input: ${params.input}: no such file")
    }
    def schema = file("${projectDir}/assets/schema_input.json").text
    def rows = sheet.splitCsv(header: true, strip: true)
    def wrong = Parameters.sheetProblems(rows, schema, params.input.toString())
    if (!wrong) {
        wrong = rows.findAll { !file(it.vcf).isFile() }.collect { "${params.input}: ${it.vcf}: no such file" }
    }
    if (wrong) {
        error("wrong sample sheet:\n  ${wrong.join('\n  ')}")
    }
    return rows.collect { row -> [[id: row.sample], file(row.vcf)] }
}

// Stops the pipeline, naming each wrong parameter.
def check_parameters() {
    def wrong = Parameters.problems(params, file("${projectDir}/nextflow_schema.json").text)
    if (wrong) {
        error("wrong parameters:\n  ${wrong.join('\n  ')}")
    }
}

def show_help() {
    log.info(Parameters.help(file("${projectDir}/nextflow_schema.json").text))
}
