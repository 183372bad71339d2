//! Request heads: the codec against the reference parser, whole and in pieces.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/http1/tests/http1/compare.rs"]
mod compare;
#[path = "../../crates/http1/tests/http1/reference/mod.rs"]
mod reference;

fuzz_target!(|input: &[u8]| {
    compare::request(input);
    // Chosen by the input, so that a crash replays.
    let longest = 1 + input.len() % 7;
    let pieces: Vec<&[u8]> = input.chunks(longest).collect();
    for lenient in [false, true] {
        compare::request_in_pieces(input, lenient, &pieces);
    }
});
