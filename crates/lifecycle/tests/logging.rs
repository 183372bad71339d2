//! The log of this very process. A file of its own, because a process has one subscriber.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use lifecycle::logging::{LogError, init};
use tracing::{Level, enabled};

#[test]
fn the_level_can_be_changed_while_the_process_runs() {
    let log = init("info", true).unwrap();
    assert!(enabled!(Level::INFO));
    assert!(!enabled!(Level::DEBUG));
    log.set_level("debug").unwrap();
    assert!(enabled!(Level::DEBUG));
    assert!(!enabled!(target: "hyper", Level::DEBUG));
    assert_eq!(log.set_level("loud"), Err(LogError::UnknownLevel("loud".to_owned())));
    assert_eq!(log.level(), "debug");
    log.set_level("off").unwrap();
    assert!(!enabled!(Level::ERROR));
    assert!(matches!(init("info", false), Err(LogError::AlreadySet)));
}
