//! The codec against the reference parser, on generated and on mutated messages, whole and in pieces.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::reference::{self, Verdict};
use crate::{compare, generate};

/// Some ten thousand per kind keep the whole run at a few seconds in a debug build.
const CASES: u64 = 12_000;

#[test]
fn generated_request_heads_are_judged_as_by_the_reference() {
    generate::cases(CASES, |rng| compare::request(&generate::request_head(rng)));
}

#[test]
fn mutated_request_heads_are_judged_as_by_the_reference() {
    generate::cases(CASES, |rng| {
        let mut input = generate::request_head(rng);
        generate::mutate(rng, &mut input);
        compare::request(&input);
    });
}

#[test]
fn generated_response_heads_are_judged_as_by_the_reference() {
    generate::cases(CASES, |rng| compare::response(&generate::response_head(rng)));
}

#[test]
fn mutated_response_heads_are_judged_as_by_the_reference() {
    generate::cases(CASES, |rng| {
        let mut input = generate::response_head(rng);
        generate::mutate(rng, &mut input);
        compare::response(&input);
    });
}

#[test]
fn generated_chunked_bodies_are_decoded_as_by_the_reference() {
    generate::cases(CASES, |rng| compare::chunks(&generate::chunked_body(rng)));
}

#[test]
fn mutated_chunked_bodies_are_decoded_as_by_the_reference() {
    generate::cases(CASES, |rng| {
        let mut input = generate::chunked_body(rng);
        generate::mutate(rng, &mut input);
        compare::chunks(&input);
    });
}

#[test]
fn the_generators_make_both_good_and_bad_messages() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut requests, mut responses, mut bodies) = (0, 0, 0);
    for _ in 0..1000 {
        requests +=
            u32::from(matches!(reference::request(&generate::request_head(&mut rng)), Verdict::Good(_)));
        responses += u32::from(matches!(
            reference::response(&generate::response_head(&mut rng), false),
            Verdict::Good(_)
        ));
        bodies +=
            u32::from(matches!(reference::chunked(&generate::chunked_body(&mut rng)), Verdict::Good(_)));
    }
    for good in [requests, responses, bodies] {
        assert!(
            (150..950).contains(&good),
            "{requests} requests, {responses} responses, {bodies} bodies of 1000 are good"
        );
    }
}

#[test]
fn a_request_head_means_the_same_in_any_split() {
    generate::cases(CASES, |rng| {
        let mut input = generate::request_head(rng);
        if rng.random() {
            generate::mutate(rng, &mut input);
        }
        let lenient = rng.random();
        compare::request_in_pieces(&input, lenient, &generate::pieces(rng, &input));
    });
}

#[test]
fn a_chunked_body_means_the_same_in_any_split() {
    generate::cases(CASES, |rng| {
        let mut input = generate::chunked_body(rng);
        if rng.random() {
            generate::mutate(rng, &mut input);
        }
        let lenient = rng.random();
        compare::chunks_in_pieces(&input, lenient, &generate::pieces(rng, &input));
    });
}
