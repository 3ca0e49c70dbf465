//! What Python sees: the class `Engine`, and the exceptions that its methods raise.

use std::path::PathBuf;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use pyo3::{create_exception, exceptions::PyException};

use crate::digest::location_middle;
use crate::engine::{self, Annotated, Contig, Existing, Failure, Options, Tally, guarded};
use crate::fasta::{Fasta, Identity, Layout, ReadError};
use crate::sha512::Lanes;

create_exception!(
    _native,
    Refused,
    PyException,
    "A record cannot be annotated: index, code and raw bytes."
);
create_exception!(
    _native,
    Changed,
    PyException,
    "The reference is not what it was when it was opened."
);
create_exception!(
    _native,
    Unreadable,
    PyException,
    "The reference cannot be read: the reason."
);

/// What `lookup` returns of a contig: accession, length, offset, bases and bytes of a line.
type Found = Option<(String, u64, u64, u64, u64)>;

/// Annotates blocks of record lines over one plain FASTA.
///
/// `lookup(name: bytes)` is called once for each new contig name (twice where two threads meet it at once),
/// and returns None or `(accession, length, offset, line_bases, line_width)`.
#[pyclass(frozen)]
struct Engine {
    engine: engine::Engine,
    lookup: Py<PyAny>,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (fasta, assembly, lookup, *, for_ref, attributes, keep_alleles, existing))]
    fn new(
        fasta: PathBuf,
        assembly: &str,
        lookup: Py<PyAny>,
        for_ref: bool,
        attributes: bool,
        keep_alleles: bool,
        existing: &str,
    ) -> PyResult<Self> {
        let existing = match existing {
            "replace" => Existing::Replace,
            "keep" => Existing::Keep,
            "error" => Existing::Error,
            _ => return Err(PyValueError::new_err("existing is replace, keep or error")),
        };
        let options = Options {
            for_ref,
            attributes,
            keep_alleles,
            existing,
        };
        let fasta = Fasta::open(&fasta)?;
        let engine = engine::Engine::new(fasta, assembly.as_bytes().to_vec(), options, lanes());
        Ok(Self { engine, lookup })
    }

    /// Device, inode, size and time of the last change in nanoseconds of the FASTA that was opened.
    fn identity(&self) -> Identity {
        self.engine.fasta().identity()
    }

    /// Annotate whole lines, each ended by a newline.
    ///
    /// The text; records, ids, kept records and whether the places tell where records end; columns, kinds, errors,
    /// examples, unknown contigs and runs; the places as packed 64-bit integers (starts, ends, offsets); and
    /// the parts of KeptAlleles, or None. Raises Refused, Changed, Unreadable, and what `lookup` raises.
    fn annotate<'py>(&self, py: Python<'py>, block: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyTuple>> {
        let block = block.as_bytes();
        if !block.is_empty() && block.last() != Some(&b'\n') {
            return Err(PyValueError::new_err("the block does not end with a whole line"));
        }
        let lookup = |name: &[u8]| {
            Python::attach(|py| -> PyResult<Option<Contig>> {
                let found = self.lookup.call1(py, (PyBytes::new(py, name),))?;
                contig(found.extract::<Found>(py)?)
            })
        };
        let annotated = py
            .detach(|| guarded(|| self.engine.annotate(block, lookup)))
            .map_err(|panic| {
                // PyO3 would raise a BaseException, which ends a worker.
                PyRuntimeError::new_err(format!("the native engine failed: {panic}"))
            })?;
        match annotated {
            Ok(annotated) => facts(py, block, annotated),
            Err(Failure::Refused(index, code, raw)) => {
                Err(Refused::new_err((index, code, PyBytes::new(py, &raw).unbind())))
            }
            Err(Failure::Reference(ReadError::Changed)) => Err(Changed::new_err(())),
            Err(Failure::Reference(ReadError::System(error))) => Err(Unreadable::new_err(error.to_string())),
            Err(Failure::Lookup(error)) => Err(error),
        }
    }
}

/// The contig that `lookup` found; an error where it cannot be one.
fn contig(found: Found) -> PyResult<Option<Contig>> {
    let Some((accession, length, offset, line_bases, line_width)) = found else {
        return Ok(None);
    };
    let middle = location_middle(&accession)
        .ok_or_else(|| PyValueError::new_err(format!("{accession} is not a refget accession")))?;
    if line_bases == 0 || line_width < line_bases || offset.checked_add(2 * length).is_none() {
        return Err(PyValueError::new_err("the contig has no place in a FASTA"));
    }
    let layout = Layout {
        length,
        offset,
        line_bases,
        line_width,
    };
    Ok(Some(Contig {
        accession,
        middle,
        layout,
    }))
}

/// The facts about a block as Python has them; see `Engine.annotate`.
fn facts<'py>(py: Python<'py>, block: &[u8], annotated: Annotated) -> PyResult<Bound<'py, PyTuple>> {
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    let named = |counts: Vec<(std::ops::Range<usize>, usize)>| -> Vec<_> {
        counts
            .into_iter()
            .map(|(name, count)| (bytes(&block[name]), count))
            .collect()
    };
    let tally = |tally: Tally| -> PyResult<Bound<'py, PyDict>> {
        let counts = PyDict::new(py);
        for (name, count) in tally.0 {
            counts.set_item(name, count)?;
        }
        Ok(counts)
    };
    let examples: Vec<_> = annotated
        .examples
        .into_iter()
        .map(|(cause, example)| (cause, bytes(&example)))
        .collect();
    let alleles = annotated.alleles;
    let kept = (!alleles.alleles.is_empty()).then(|| {
        (
            bytes(alleles.alleles.as_flattened()),
            bytes(alleles.locations.as_flattened()),
            packed(py, &alleles.places_of),
            packed(py, &alleles.places),
            alleles.accessions,
            packed(py, &alleles.states),
            bytes(&alleles.sequences),
        )
    });
    (
        bytes(&annotated.text),
        (annotated.records, annotated.ids, annotated.kept, annotated.plain),
        (
            annotated.columns,
            tally(annotated.kinds)?,
            tally(annotated.errors)?,
            examples,
            named(annotated.unknown),
            named(annotated.runs),
        ),
        (
            packed(py, &annotated.starts),
            packed(py, &annotated.ends),
            packed(py, &annotated.offsets),
        ),
        kept,
    )
        .into_pyobject(py)
}

/// Integers in the machine's order of bytes.
fn packed<'py>(py: Python<'py>, numbers: &[i64]) -> Bound<'py, PyBytes> {
    let bytes: Vec<[u8; 8]> = numbers.iter().map(|number| number.to_ne_bytes()).collect();
    PyBytes::new(py, bytes.as_flattened())
}

/// The fastest instructions of this processor.
fn lanes() -> Lanes {
    Lanes::available()[0]
}

/// How many lines there are in a text that ends with a line end.
#[pyfunction]
fn count_lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

/// What tells the state of `native/` that this was built from; None where cargo was called by hand.
const SOURCES: Option<&str> = option_env!("ANYVAR_STEP_NATIVE_SOURCES");

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // A panic becomes an exception; its report on stderr would come on top of that.
    std::panic::set_hook(Box::new(|_| {}));
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(count_lines, module)?)?;
    module.add("SOURCES", SOURCES)?;
    module.add("Refused", module.py().get_type::<Refused>())?;
    module.add("Changed", module.py().get_type::<Changed>())?;
    module.add("Unreadable", module.py().get_type::<Unreadable>())
}
