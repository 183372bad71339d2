//! One line of the doctor.
//!
//! Owns its three outcomes and how they are printed. It must never hold a secret: lines go into logs.
//! Next: `control.rs`.

use std::fmt;
use std::time::Duration;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Something has to be done.
    Fail,
    /// Not asked for here, or it cannot be known.
    Skip,
}

/// A check, what was measured, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What came of it.
    pub outcome: Outcome,
    check: String,
    measured: String,
    /// Only of a failure.
    cure: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: impl Into<String>, measured: impl Into<String>) -> Self {
        let (check, measured) = (check.into(), measured.into());
        Self { outcome: Outcome::Ok, check, measured, cure: String::new() }
    }

    /// Something has to be done: `cure`.
    pub fn fail(check: impl Into<String>, measured: impl Into<String>, cure: impl Into<String>) -> Self {
        let (check, measured, cure) = (check.into(), measured.into(), cure.into());
        Self { outcome: Outcome::Fail, check, measured, cure }
    }

    /// Not asked for, and why.
    pub fn skip(check: impl Into<String>, why: impl Into<String>) -> Self {
        let (check, measured) = (check.into(), why.into());
        Self { outcome: Outcome::Skip, check, measured, cure: String::new() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Fail => "FAIL",
            Outcome::Skip => "skip",
        };
        write!(f, "{word}  {}: {}", self.check, self.measured.replace(['\r', '\n'], " "))?;
        for line in self.cure.lines() {
            write!(f, "\n      {line}")?;
        }
        Ok(())
    }
}

/// Whole milliseconds, never less than one.
pub fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis().max(1))
}

/// How a connect failed, as far as it says who has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// No answer: a security group, a network ACL or a wrong address.
    Silence,
    /// The machine answers, nobody listens.
    Refused,
    /// No route.
    Unreachable,
    /// This process is short of something.
    Local,
}

impl Closed {
    /// What the system's error means.
    pub fn of(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::TimedOut => Self::Silence,
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Self::Refused,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Local,
        }
    }
}

/// Connects once, within `limit`.
///
/// # Errors
/// How it failed, and the system's words.
pub async fn connect(address: std::net::SocketAddr, limit: Duration) -> Result<Duration, (Closed, String)> {
    let started = tokio::time::Instant::now();
    match tokio::time::timeout(limit, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(started.elapsed()),
        Ok(Err(error)) => Err((Closed::of(&error), error.to_string())),
        Err(_) => Err((Closed::Silence, format!("no answer within {} s", limit.as_secs()))),
    }
}

/// The command that opens a port of `whose` tasks for the gateway's.
pub fn open_port(whose: &str, port: u16) -> String {
    format!(
        "the security group of {whose} must allow TCP {port} from the security group of the gateway:\n\
         aws ec2 authorize-security-group-ingress --group-id <group of {whose}> --protocol tcp --port {port} \
         --source-group <group of the gateway>\n\
         (if it does, look at the network ACLs of both subnets)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_a_failure_has_its_cure_below() {
        assert_eq!(Finding::ok("control name", "10.0.0.1").to_string(), "ok    control name: 10.0.0.1");
        let failed = Finding::fail("port", "a\nb", "first\nsecond").to_string();
        assert_eq!(failed, "FAIL  port: a b\n      first\n      second");
        assert_eq!(Finding::skip("x", "not used").to_string(), "skip  x: not used");
    }

    #[test]
    fn silence_is_told_from_a_closed_port() {
        let closed = |code| Closed::of(&std::io::Error::from_raw_os_error(code));
        // ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EMFILE of Linux.
        let of: Vec<_> = [110, 111, 113, 101, 24].into_iter().map(closed).collect();
        use Closed::{Local, Refused, Silence, Unreachable};
        assert_eq!(of, [Silence, Refused, Unreachable, Unreachable, Local]);
    }
}
