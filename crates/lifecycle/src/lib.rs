//! How a process lives: its log, when it is ready, how it is told to stop and how it drains.
//!
//! Owns what every one of our processes does in the same way. It must never know a word of the domain: no
//! route, no weight, no endpoint. Reading order: [`logging`], [`readiness`], [`signals`], [`drain`],
//! [`assertions`].

#![forbid(unsafe_code)]

pub mod assertions;
pub mod drain;
pub mod logging;
pub mod readiness;
pub mod signals;
