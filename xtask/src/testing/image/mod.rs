//! The step `image`: the Dockerfile is really built, and what comes out of it is started and looked at, without a
//! Docker daemon, a registry or a container service.
//!
//! Owns the order of it and what is told. buildah builds; its base images are made here, under the names that the
//! Dockerfile uses. Must never put anything into the image that the Dockerfile does not. Next: `base.rs` (the base
//! images), `checks.rs` (what the image has to be able to do), `running.rs` (programs of the image, started).

mod base;
mod buildah;
mod checks;
mod dockerfile;
mod running;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::steps::Context;
use super::tally::Tally;
use crate::{shell, workspace};
use buildah::Buildah;
use dockerfile::Dockerfile;

/// The name of the image here; nobody else sees it.
const IMAGE: &str = "weir-checked";
/// As many lines of a failed build are shown; all of them are in the log.
const LAST_LINES: usize = 40;
/// Where the builder finds the machine's Rust toolchain; not a place of the real base image.
const TOOLCHAIN: &str = "/opt/machine-toolchain";
/// Where the builder finds the crates, so that it needs no registry.
const VENDOR: &str = "/opt/machine-vendor";

/// Builds the image and looks at it; answers whether all is as it should be.
pub fn check(context: &Context, tally: &mut Tally) -> Result<bool> {
    let folder = context.target.join("image");
    let buildah = Buildah::prepare(&folder)?;
    let dockerfile = Dockerfile::read(&context.root.join("Dockerfile"))?;
    base::prepare(&buildah, &dockerfile)?;
    let commit = commit(&context.root);
    build(&buildah, &context.root, commit.as_deref())?;
    let image = buildah.inspect(IMAGE)?;
    checks::run(&buildah, &checks::Subject { image, commit }, tally)
}

/// The commit that `--version` has to name; nothing where there is no git.
fn commit(root: &Path) -> Option<String> {
    let mut git = Command::new("git");
    let said = shell::quiet(git.args(["rev-parse", "--short=12", "HEAD"]).current_dir(root)).ok()?;
    Some(said.trim().to_owned())
}

/// `docker build`, as near as it gets. The toolchain and the crates are lent to the builder, never copied.
fn build(buildah: &Buildah, root: &Path, commit: Option<&str>) -> Result<()> {
    let vendor = buildah.folder().join("vendor");
    let mut cargo = workspace::cargo();
    // A machine's own way to the registry (a mirror, say) is its cargo configuration's affair.
    cargo.args(["vendor", "--locked", "--quiet", "--respect-source-config", "--versioned-dirs"]);
    shell::quiet(cargo.arg(&vendor).current_dir(root)).context("the crates could not be had")?;
    let sysroot = shell::quiet(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root))?;
    let started = Instant::now();
    let log = buildah.folder().join("build.log");
    println!("building, a release build of everything; its log is {}", log.display());
    let mut command = buildah.command(&["bud", "--pull-never", "--format", "docker", "--tag", IMAGE]);
    for (what, place) in [
        (Path::new(sysroot.trim()), TOOLCHAIN),
        (&vendor, VENDOR),
        (&buildah.apt_settings(), buildah::APT_SETTINGS),
    ] {
        command.arg("--volume").arg(format!("{}:{place}:ro", what.display()));
    }
    if let Some(commit) = commit {
        command.arg("--build-arg").arg(format!("WEIR_COMMIT={commit}"));
    }
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdout(file.try_clone()?).stderr(file).stdin(std::process::Stdio::null());
    let ok = command.arg(root).status().context("cannot run buildah")?.success();
    let said = std::fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    if !ok {
        bail!("the Dockerfile does not build:\n{}", shell::last_lines(&said, LAST_LINES));
    }
    // The image that had this name before.
    buildah.run(&["rmi", "--prune"])?;
    println!("built after {} s", started.elapsed().as_secs());
    Ok(())
}
