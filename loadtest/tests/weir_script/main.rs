//! `config/ecs/weir` and the pipeline's scripts, run by `sh` against programs that play `aws`, `curl` and `git`.
//!
//! Owns nothing of AWS: whether a query fits what the real CLI answers is shown by `real_cli.rs`. Next: `fake_aws.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]
#![cfg(unix)]

mod bypass;
mod fake_aws;
mod one_off;
mod real_cli;
mod release;
mod sessions;
mod workflow;
