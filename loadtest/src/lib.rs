//! `loadtest`: an open-loop load generator, a split checker and a backend with faults on request.
//!
//! Owns: sending requests at times that were fixed beforehand, telling the versions apart, judging a
//! split and saying how long answers took. Must never: slow its sending down because the peer is slow
//! (that hides the very waits it is to measure), drop a late send, or import `gateway` or `control`;
//! it meets them on the wire.
//!
//! Read [`schedule`] first (when is each request due), then [`drive`] (who sends it), [`client`] (how),
//! [`record`] (what is kept), [`split`] (the judgement), [`report`] (what is printed). [`upstream`] is
//! the backend, [`cli`] the command line.
#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod drive;
pub mod fault;
pub mod identify;
pub mod pieces;
pub mod record;
pub mod register;
pub mod report;
pub mod schedule;
pub mod split;
pub mod switch;
pub mod upstream;
