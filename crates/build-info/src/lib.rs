//! What this build is: the version of the workspace and the commit it was made from.
//!
//! Owns the words behind `--version`. Must never read anything while the program runs. Next: `../build.rs`, which finds
//! the commit.

#![forbid(unsafe_code)]

/// The commit, as `WEIR_COMMIT` named it when this was built, else twelve digits from git. Nothing in a development
/// build without that variable, or where there was no git. It names the checked-out commit even when files were changed.
pub const COMMIT: Option<&str> = option_env!("WEIR_BUILD_COMMIT");

/// For `--version`: `0.1.0 (commit 2f1d0c9a7b3e)`, `0.1.0 (development build)` or `0.1.0 (commit unknown)`.
pub const VERSION: &str = env!("WEIR_BUILD_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_the_commit_or_says_why_it_cannot() {
        let origin = VERSION.strip_prefix(env!("CARGO_PKG_VERSION")).unwrap();
        match COMMIT {
            Some(commit) => {
                assert!(!commit.is_empty());
                assert_eq!(origin, format!(" (commit {commit})"));
            }
            None => assert!([" (development build)", " (commit unknown)"].contains(&origin), "{origin}"),
        }
    }
}
