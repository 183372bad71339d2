//! The data plane of Weir.
//!
//! Reading order: `app` (birth and death of the process), `listener` (accepting), `request` (the life of one request,
//! top to bottom), `router`, `cluster`, `upstream`, then `state` (what they all read) and `sources` (who changes it).
//! `admin` and `stats` watch. Direction of imports: listener -> request -> router -> upstream -> cluster; sources
//! only send changes to `state::store`; nobody imports `admin` or a source but `app`.

#![forbid(unsafe_code)]

pub mod access_log;
pub mod admin;
pub mod app;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod environment;
pub mod error;
pub mod few_clients;
pub mod io;
pub mod listener;
pub mod opening;
pub mod process;
pub mod request;
pub mod response_flags;
pub mod router;
pub mod sources;
pub mod state;
pub mod stats;
pub mod upstream;
pub mod worker;
