//! Response heads: the codec against the reference parser.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/http1/tests/http1/compare.rs"]
mod compare;
#[path = "../../crates/http1/tests/http1/reference/mod.rs"]
mod reference;

fuzz_target!(|input: &[u8]| compare::response(input));
