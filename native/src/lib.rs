//! The compiled VRS engine of anyvar-step, as the Python module `anyvar_step._native`.
//!
//! It gives the same bytes, facts and refusals as `anyvar_step/vrs/python_engine.py`, which states the rules.
//! The interpreter's lock is released while a block is annotated.

// Unit tests are built without Python, and so without what uses the engine.
#![cfg_attr(not(feature = "python"), allow(dead_code))]

mod digest;
mod engine;
mod fasta;
mod normalize;
#[cfg(feature = "python")]
mod python;
mod record;
mod sha512;
