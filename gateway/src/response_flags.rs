//! Envoy's response flags: why a request ended as it did.
//!
//! Owns the set and its short names (Envoy: access log `%RESPONSE_FLAGS%`). Next: `error.rs`.

use std::fmt;

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

const NAMES: [(&str, ResponseFlags); 15] = [
    ("UH", ResponseFlags::NO_HEALTHY_UPSTREAM),
    ("UF", ResponseFlags::UPSTREAM_CONNECTION_FAILURE),
    ("UO", ResponseFlags::UPSTREAM_OVERFLOW),
    ("NR", ResponseFlags::NO_ROUTE),
    ("URX", ResponseFlags::RETRY_LIMIT_EXCEEDED),
    ("NC", ResponseFlags::NO_CLUSTER),
    ("UT", ResponseFlags::UPSTREAM_TIMEOUT),
    ("UC", ResponseFlags::UPSTREAM_TERMINATION),
    ("UR", ResponseFlags::UPSTREAM_RESET),
    ("UPE", ResponseFlags::UPSTREAM_PROTOCOL_ERROR),
    ("DC", ResponseFlags::DOWNSTREAM_TERMINATION),
    ("DR", ResponseFlags::DOWNSTREAM_RESET),
    ("SI", ResponseFlags::STREAM_IDLE_TIMEOUT),
    ("DPE", ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR),
    ("OM", ResponseFlags::OVERLOAD),
];

#[allow(missing_docs, reason = "the constant's name is Envoy's long name of the flag")]
impl ResponseFlags {
    pub const NONE: Self = Self(0);
    pub const NO_HEALTHY_UPSTREAM: Self = Self(1);
    pub const UPSTREAM_CONNECTION_FAILURE: Self = Self(1 << 1);
    pub const UPSTREAM_OVERFLOW: Self = Self(1 << 2);
    pub const NO_ROUTE: Self = Self(1 << 3);
    pub const RETRY_LIMIT_EXCEEDED: Self = Self(1 << 4);
    pub const NO_CLUSTER: Self = Self(1 << 5);
    pub const UPSTREAM_TIMEOUT: Self = Self(1 << 6);
    pub const UPSTREAM_TERMINATION: Self = Self(1 << 7);
    pub const UPSTREAM_RESET: Self = Self(1 << 8);
    pub const UPSTREAM_PROTOCOL_ERROR: Self = Self(1 << 9);
    pub const DOWNSTREAM_TERMINATION: Self = Self(1 << 10);
    pub const DOWNSTREAM_RESET: Self = Self(1 << 11);
    pub const STREAM_IDLE_TIMEOUT: Self = Self(1 << 12);
    pub const DOWNSTREAM_PROTOCOL_ERROR: Self = Self(1 << 13);
    pub const OVERLOAD: Self = Self(1 << 14);

    /// Adds flags.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether all of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether none is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for ResponseFlags {
    /// Short names joined with commas, `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, flag) in NAMES {
            if self.contains(flag) {
                if !first {
                    f.write_str(",")?;
                }
                f.write_str(name)?;
                first = false;
            }
        }
        if first { f.write_str("-") } else { Ok(()) }
    }
}
