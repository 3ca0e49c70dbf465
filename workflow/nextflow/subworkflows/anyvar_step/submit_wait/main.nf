// Submits each VCF in one task and waits for its run in another, which needs no slot of a cluster.

include { ANYVAR_STEP_SUBMIT  } from '../../../modules/anyvar_step/submit/main'
include { ANYVAR_STEP_COLLECT } from '../../../modules/anyvar_step/collect/main'

workflow ANYVAR_STEP_SUBMIT_WAIT {
    take:
    ch_vcf // channel: [ val(meta), path(vcf) ]

    main:
    ANYVAR_STEP_SUBMIT(ch_vcf)
    ANYVAR_STEP_COLLECT(ch_vcf.join(ANYVAR_STEP_SUBMIT.out.ticket))

    // The strict parser of 25.04 takes names in emit, not assignments.
    vcf = ANYVAR_STEP_COLLECT.out.vcf
    tbi = ANYVAR_STEP_COLLECT.out.tbi
    csi = ANYVAR_STEP_COLLECT.out.csi
    ndjson = ANYVAR_STEP_COLLECT.out.ndjson
    tsv = ANYVAR_STEP_COLLECT.out.tsv
    report = ANYVAR_STEP_COLLECT.out.report
    versions_anyvar_step = ANYVAR_STEP_SUBMIT.out.versions_anyvar_step.mix(ANYVAR_STEP_COLLECT.out.versions_anyvar_step)

    emit:
    vcf // channel: [ val(meta), path(vcf) ]
    tbi // channel: [ val(meta), path(tbi) ]
    csi // channel: [ val(meta), path(csi) ]
    ndjson // channel: [ val(meta), path(ndjson) ]
    tsv // channel: [ val(meta), path(tsv) ]
    report // channel: [ val(meta), path(json) ]
    versions_anyvar_step // channel: [ val(process), val(tool), val(version) ]
}
