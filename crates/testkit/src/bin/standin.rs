//! The AWS stand-in as a process of its own, for the demo and for hand use: `standin --port 14566`.
//!
//! Registers nothing by itself; see the table at `testkit::standin` for its own HTTP interface. Runs until it is killed.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::Parser;
use testkit::standin::Standin;

/// Plays Cloud Map, App Mesh and the ECS metadata endpoint on one loopback port.
#[derive(Parser)]
struct Args {
    /// The port to listen on; 0 lets the kernel choose.
    #[arg(long, default_value_t = 14566)]
    port: u16,
}

fn main() -> ExitCode {
    match serve(Args::parse().port) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("standin: {error:#} (another port: --port N)");
            ExitCode::FAILURE
        }
    }
}

fn serve(port: u16) -> anyhow::Result<Infallible> {
    let standin = Standin::start_on(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    // Whoever started us waits for this line; it may be a pipe.
    println!("standin listens on {}", standin.url());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}
