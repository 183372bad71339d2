//! Finds the commit that is being built and hands it to `src/lib.rs`.
//!
//! Owns where the commit comes from: the variable `WEIR_COMMIT`, else, in a release build, git. Must never fail for
//! want of git, and never tie a development build to the commit: every commit would then link every program anew.
//! Next: `src/lib.rs`.

use std::path::Path;
use std::process::Command;

/// A hash has 40 digits, or 64 where git uses SHA-256; a longer name is a mistake.
const LONGEST: usize = 64;
/// As many digits as git shows in a large project.
const SHORT: &str = "--short=12";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=WEIR_COMMIT");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = std::env::var("WEIR_COMMIT").unwrap_or_default();
    let given = given.trim();
    if !sound(given) {
        println!(
            "cargo:warning=WEIR_COMMIT is not a commit (letters, digits, . _ -): it is left out of --version"
        );
    }
    let commit = match given {
        "" if release => from_git(),
        given => Some(given.to_owned()).filter(|given| !given.is_empty() && sound(given)),
    };
    let origin = match &commit {
        Some(commit) => {
            println!("cargo:rustc-env=WEIR_BUILD_COMMIT={commit}");
            format!("commit {commit}")
        }
        None if release => "commit unknown".to_owned(),
        None => "development build".to_owned(),
    };
    println!("cargo:rustc-env=WEIR_BUILD_VERSION={version} ({origin})");
}

/// What may stand in one line of a log.
fn sound(commit: &str) -> bool {
    commit.len() <= LONGEST
        && commit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The commit that is checked out, if this workspace is a git repository of its own.
fn from_git() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    let git = |words: &[&str]| -> Option<String> {
        let output = Command::new("git").current_dir(&workspace).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    // Unpacked inside somebody else's repository, it would tell their commit.
    let top = Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if top != workspace {
        return None;
    }
    let mut places = vec!["HEAD".to_owned(), "packed-refs".to_owned()];
    places.extend(git(&["symbolic-ref", "--quiet", "HEAD"]));
    for place in places {
        // What does not exist would count as changed at every build.
        if let Some(path) = git(&["rev-parse", "--git-path", &place]).map(|path| workspace.join(path))
            && path.exists()
        {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", SHORT, "HEAD"])
}
