// Annotates the VCFs of a sample sheet with GA4GH VRS identifiers through AnyVar's Celery workers.
//
//   <outdir>/annotated/<sample>.vrs.vcf.gz(.tbi)   the annotated VCFs (BGZF) and their indexes
//   <outdir>/reports/<sample>.vrs.json             counts, timings and versions of each run
//   <outdir>/summary.html, <outdir>/multiqc/       all samples on one page and as MultiQC sections, failed ones on top
//   <outdir>/pipeline_info/versions.yml            the programs that made them
//
// Parameters: nextflow_schema.json; how to run it: docs/nextflow.md.

nextflow.enable.dsl = 2

include { ANYVAR_STEP_ANNOTATE    } from './modules/anyvar_step/annotate/main'
include { ANYVAR_STEP_INGEST      } from './modules/anyvar_step/ingest/main'
include { ANYVAR_STEP_REPORT      } from './modules/anyvar_step/report/main'
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
        done = ANYVAR_STEP_INGEST(ch_vcf)
    } else if (params.submit_first) {
        done = ANYVAR_STEP_SUBMIT_WAIT(ch_vcf)
    } else {
        done = ANYVAR_STEP_ANNOTATE(ch_vcf)
    }
    ch_summary = done.report.toSortedList { a, b -> a[0].id <=> b[0].id }.map { summary_of(samples, it) }
    ANYVAR_STEP_REPORT(ch_summary)
    ch_summary.join(ANYVAR_STEP_REPORT.out.page).subscribe { meta, annotated, reports, failed, page ->
        if (failed) {
            log.warn("failed, and shown so in ${params.outdir}/summary.html: ${failed.join(', ')}")
        }
    }
    ch_versions = done.versions.mix(ANYVAR_STEP_REPORT.out.versions)
    ch_versions.unique { it.text }.collectFile(name: 'versions.yml', storeDir: "${params.outdir}/pipeline_info")
}

// The rows of the sample sheet as [ meta, vcf ]; an error names the sheet, the line and what is wrong.
def read_sheet() {
    def schema = file("${projectDir}/assets/schema_input.json").text
    def sheet = file(params.input, glob: false)
    def rows = sheet.text.trim() ? sheet.splitCsv(header: true, strip: true, quote: '"') : []
    def wrong = Parameters.sheetProblems(rows, schema, params.input.toString())
    if (wrong) {
        error("wrong sample sheet:\n  ${wrong.join('\n  ')}")
    }
    return rows.collect { row -> [[id: row.sample], file(row.vcf, glob: false)] }
}

// What ANYVAR_STEP_REPORT is told: samples with their reports, and those that have none.
def summary_of(List samples, List reported) {
    def annotated = reported.collect { meta, report -> meta.id }
    def failed = samples.collect { meta, vcf -> meta.id } - annotated
    return [[id: 'summary'], annotated, reported.collect { meta, report -> report }, failed]
}

// Stops the pipeline, naming each wrong parameter.
def check_parameters() {
    def wrong = Parameters.problems(params, file("${projectDir}/nextflow_schema.json").text)
    if (workflow.containerEngine && !params.container) {
        wrong << "container: required with -profile ${workflow.containerEngine}; docs/nextflow.md says how to make one"
    }
    if (wrong) {
        error("wrong parameters, --help lists the right ones:\n  ${wrong.join('\n  ')}")
    }
}

def show_help() {
    log.info('Usage: nextflow run … --input samples.csv --outdir results [-resume] [-profile PROFILE,…]')
    log.info('Profiles: slurm; conda, docker, singularity or apptainer; keep_going')
    log.info(Parameters.help(file("${projectDir}/nextflow_schema.json").text))
}
