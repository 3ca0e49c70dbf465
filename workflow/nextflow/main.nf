// Annotates the VCFs of a sample sheet with GA4GH VRS identifiers through AnyVar's Celery workers.
//
//   <outdir>/annotated/<sample>.vrs.vcf.gz(.tbi)   the annotated VCFs (BGZF) and their indexes
//   <outdir>/reports/<sample>.vrs.json             counts, timings and versions of each run
//   <outdir>/summary.html, <outdir>/multiqc/       all samples on one page and as MultiQC sections, failed ones first
//   <outdir>/pipeline_info/versions.yml            the programs that made them
//
// Parameters: nextflow_schema.json; how to run it: docs/nextflow.md.

include { ANYVAR_STEP_ANNOTATE    } from './modules/anyvar_step/annotate/main'
include { ANYVAR_STEP_INGEST      } from './modules/anyvar_step/ingest/main'
include { ANYVAR_STEP_REPORT      } from './modules/anyvar_step/report/main'
include { ANYVAR_STEP_SUBMIT_WAIT } from './subworkflows/anyvar_step/submit_wait/main'

workflow {
    if (params.help) {
        show_help()
    } else {
        check_parameters(params)
        ANNOTATE_SHEET(
            read_sheet(params.input),
            params.ingest ? 'ingest' : params.submit_first ? 'submit_first' : 'annotate',
            params.outdir,
        )
    }
}

workflow ANNOTATE_SHEET {
    take:
    samples // list of [ meta, vcf ]
    mode // 'annotate', 'submit_first' or 'ingest'
    outdir // path of the results

    main:
    ch_vcf = channel.fromList(samples)
    ch_report = channel.empty()
    ch_versions = channel.empty()
    if (mode == 'ingest') {
        ANYVAR_STEP_INGEST(ch_vcf)
        ch_report = ANYVAR_STEP_INGEST.out.report
        ch_versions = ch_versions.mix(ANYVAR_STEP_INGEST.out.versions_anyvar_step)
    } else if (mode == 'submit_first') {
        ANYVAR_STEP_SUBMIT_WAIT(ch_vcf)
        ch_report = ANYVAR_STEP_SUBMIT_WAIT.out.report
        ch_versions = ch_versions.mix(ANYVAR_STEP_SUBMIT_WAIT.out.versions_anyvar_step)
    } else {
        ANYVAR_STEP_ANNOTATE(ch_vcf)
        ch_report = ANYVAR_STEP_ANNOTATE.out.report
        ch_versions = ch_versions.mix(ANYVAR_STEP_ANNOTATE.out.versions_anyvar_step)
    }
    ch_summary = ch_report
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .map { reported -> summary_of(samples, reported) }
    ANYVAR_STEP_REPORT(ch_summary)
    ch_summary
        .join(ANYVAR_STEP_REPORT.out.page)
        .subscribe { _meta, _annotated, _reports, failed, _page ->
            if (failed) {
                log.warn("failed, and shown so in ${outdir}/summary.html: ${failed.join(', ')}")
            }
        }
    ch_versions = ch_versions.mix(ANYVAR_STEP_REPORT.out.versions_anyvar_step)
    ch_versions
        .map { process, tool, version -> "\"${process}\":\n    ${tool}: ${version}\n" }
        .unique()
        .collectFile(name: 'versions.yml', storeDir: "${outdir}/pipeline_info", sort: true)
}

// The rows of the sample sheet as [ meta, vcf ]; an error names the sheet, the line and what is wrong.
def read_sheet(input) {
    def schema = file("${projectDir}/assets/schema_input.json").text
    def sheet = file(input, glob: false)
    def rows = sheet.text.trim() ? sheet.splitCsv(header: true, strip: true, quote: '"') : []
    def wrong = Parameters.sheetProblems(rows, schema, input.toString())
    if (wrong) {
        error("wrong sample sheet:\n  ${wrong.join('\n  ')}")
    }
    return rows.collect { row -> [[id: row.sample], file(row.vcf, glob: false)] }
}

// The input of ANYVAR_STEP_REPORT: the samples that have a report, their reports, and the samples without.
def summary_of(samples, reported) {
    def annotated = reported.collect { meta, _report -> meta.id }
    def failed = samples.collect { meta, _vcf -> meta.id } - annotated
    return [[id: 'summary'], annotated, reported.collect { _meta, report -> report }, failed]
}

// Stops the pipeline with the name of each wrong parameter.
def check_parameters(given) {
    def wrong = Parameters.problems(given, file("${projectDir}/nextflow_schema.json").text)
    if (workflow.containerEngine in ['singularity', 'apptainer'] && !given.container) {
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
