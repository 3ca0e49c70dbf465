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
    vcf      = ANYVAR_STEP_COLLECT.out.vcf // channel: [ val(meta), path(vcf) ]
    tbi      = ANYVAR_STEP_COLLECT.out.tbi // channel: [ val(meta), path(tbi) ]
    report   = ANYVAR_STEP_COLLECT.out.report // channel: [ val(meta), path(json) ]
    versions = ANYVAR_STEP_SUBMIT.out.versions.mix(ANYVAR_STEP_COLLECT.out.versions) // channel: path(versions.yml)
}
