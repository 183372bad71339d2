//! Signals sent to this very process. A file of its own, because handlers belong to the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use lifecycle::signals::{Shutdown, shutdown};
use std::process::Command;

fn send(signal: &str) {
    let me = std::process::id().to_string();
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {me}")]).status().unwrap().success());
}

#[tokio::test]
async fn the_first_signal_asks_to_drain_and_the_second_to_leave_now() {
    let mut signals = shutdown().unwrap();
    send("TERM");
    assert_eq!(signals.recv().await, Shutdown::Drain);
    send("INT");
    assert_eq!(signals.recv().await, Shutdown::Immediate);
    send("TERM");
    assert_eq!(signals.recv().await, Shutdown::Immediate);
}
