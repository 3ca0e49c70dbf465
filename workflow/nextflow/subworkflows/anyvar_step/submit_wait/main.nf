// Submits each VCF in one task and waits for its run in another, which needs no slot of a cluster.

include { ANYVAR_STEP_SUBMIT  } from '../../../modules/anyvar_step/submit/main'
include { ANYVAR_STEP_COLLECT } from '../../../modules/anyvar_step/collect/main'

workflow ANYVAR_STEP_SUBMIT_WAIT {
    take:
    ch_vcf // channel: [ val(meta), path(vcf) ]

    main:
    ANYVAR_STEP_SUBMIT(ch_vcf)
    ANYVAR_STEP_COLLECT(ch_vcf.join(ANYVAR_STEP_SUBMIT.out.ticket))

    emit:
    vcf    = ANYVAR_STEP_COLLECT.out.vcf // channel: [ val(meta), path(vcf) ]
    tbi    = ANYVAR_STEP_COLLECT.out.tbi // channel: [ val(meta), path(tbi) ]
    csi    = ANYVAR_STEP_COLLECT.out.csi // channel: [ val(meta), path(csi) ]
    ndjson = ANYVAR_STEP_COLLECT.out.ndjson // channel: [ val(meta), path(ndjson) ]
    tsv    = ANYVAR_STEP_COLLECT.out.tsv // channel: [ val(meta), path(tsv) ]
    report = ANYVAR_STEP_COLLECT.out.report // channel: [ val(meta), path(json) ]
    versions_anyvar_step = ANYVAR_STEP_SUBMIT.out.versions_anyvar_step.mix(ANYVAR_STEP_COLLECT.out.versions_anyvar_step) // channel: [ val(process), val(tool), val(version) ]
}
