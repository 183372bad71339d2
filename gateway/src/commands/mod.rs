//! What the program does beside serving: `gateway override` and `gateway --mode doctor`.
//!
//! Owns commands that ask a gateway or its surroundings and end. They bind nothing and change nothing but what they were
//! told to. Next: `override_route.rs`.

pub mod client;
pub mod doctor;
pub mod override_route;
