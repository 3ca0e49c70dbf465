//! `gtars-identifiers FASTA VCF`: the VRS identifiers of all ALT alleles, one a line, by gtars-vrs.
//!
//! The FASTA is loaded into memory each time; a run over a VCF without records tells what that costs.

use std::error::Error;
use std::io::{BufWriter, Write, stdout};

use gtars_refget::store::{FastaImportOptions, RefgetStore};
use gtars_vrs::vcf::compute_vrs_ids_streaming;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, fasta, vcf] = &arguments[..] else { return Err("usage: gtars-identifiers FASTA VCF".into()) };
    let mut store = RefgetStore::in_memory();
    store.add_sequence_collection_from_fasta(fasta, FastaImportOptions::new())?;
    let collections = store.list_collections(0, 1, &[])?;
    let digest = collections.results[0].digest.clone();
    let mut out = BufWriter::with_capacity(1 << 16, stdout().lock());
    let mut failed = None;
    compute_vrs_ids_streaming(&mut store, &digest, vcf, |result| {
        if let Err(error) = writeln!(out, "{}", result.vrs_id) {
            failed = Some(error);
        }
    })?;
    failed.map_or(Ok(()), Err)?;
    Ok(out.flush()?)
}
