//! What the tests and the demo stand on: scripted backends, raw clients, and stand-ins for AWS, the ALB and DNS.
//!
//! Nothing here is linked into a shipped binary, and nothing here decides anything about traffic. Every part listens on loopback
//! only, on a port that the kernel chose, in a thread of its own with a clock of its own (so that a test may pause tokio's clock or
//! count its own thread's allocations), and stops when it is dropped.
//!
//! Reading order: [`host`] (the thread each part lives in), [`wire`] (reading HTTP/1.1 off a socket), [`upstream`] and [`client`]
//! (both ends of a gateway under test), [`standin`] (Cloud Map, App Mesh, ECS), [`alb`], [`dns`], [`process`],
//! [`account`] (all of them as an AWS account in network namespaces, the one part that is not on loopback).

#![forbid(unsafe_code)]

pub mod account;
pub mod alb;
pub mod client;
pub mod clock;
pub mod dns;
pub mod host;
pub mod net;
pub mod process;
pub mod standin;
pub mod upstream;
pub mod wire;

pub use clock::within;
pub use net::free_port;
