//! Stand-ins for the two base images, made from Debian's packages and the machine's own Rust toolchain.
//!
//! Owns what is in them; they have the names that the Dockerfile uses, and nothing that the real ones lack except the
//! way to the lent toolchain and crates. Must never be pushed anywhere. Next: `checks.rs`.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::buildah::{APT_SETTINGS, Buildah};
use super::dockerfile::Dockerfile;
use super::{TOOLCHAIN, VENDOR};
use crate::shell;

/// Raised when what is made here changes.
const LAYOUT: u32 = 1;
/// What Debian's slim image leaves out, now and of every package that is added.
const LEFT_OUT: &str = r#"
set -e
rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* usr/share/man/* usr/share/info/* usr/share/locale/*
for what in doc man info locale; do echo "path-exclude /usr/share/$what/*"; done > etc/dpkg/dpkg.cfg.d/slim
echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";' > etc/apt/apt.conf.d/clean
"#;
/// The real image has exactly these packages beside the toolchain.
const BUILDER_PACKAGES: &str = "ca-certificates gcc libc6-dev";

/// Makes both images, or finds them.
pub fn prepare(buildah: &Buildah, wanted: &Dockerfile) -> Result<()> {
    let stamp = buildah.folder().join("stamp");
    let text = format!("layout {LAYOUT}\n{}\n{}\n", wanted.builder, wanted.runtime);
    let whole = buildah.has(&wanted.builder) && buildah.has(&wanted.runtime);
    if whole && std::fs::read_to_string(&stamp).is_ok_and(|found| found == text) {
        println!("the base images are as they should be");
        return Ok(());
    }
    println!("base images: {} and {}", wanted.runtime, wanted.builder);
    runtime(buildah, wanted).with_context(|| format!("cannot make {}", wanted.runtime))?;
    builder(buildah, wanted).with_context(|| format!("cannot make {}", wanted.builder))?;
    std::fs::write(&stamp, text).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Debian as small as it gets.
fn runtime(buildah: &Buildah, wanted: &Dockerfile) -> Result<()> {
    let folder = buildah.folder().join("debian");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut bootstrap = Command::new("debootstrap");
    shell::quiet(bootstrap.args(["--variant=minbase", &wanted.debian]).arg(&folder))?;
    shell::quiet(Command::new("sh").args(["-c", LEFT_OUT]).current_dir(&folder))?;
    let container = buildah.run(&["from", "scratch"])?;
    shell::quiet(buildah.command(&["copy", "--quiet", &container]).arg(&folder).arg("/"))?;
    buildah.run(&["config", "--cmd", "bash", &container])?;
    buildah.run(&["commit", "--quiet", "--rm", &container, &wanted.runtime])?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Debian with a C compiler, and links to the toolchain that the build lends.
fn builder(buildah: &Buildah, wanted: &Dockerfile) -> Result<()> {
    let container = buildah.run(&["from", "--pull-never", &wanted.runtime])?;
    let script = format!(
        "set -e; apt-get update; \
         DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends {BUILDER_PACKAGES}; \
         rm -rf /var/lib/apt/lists/*; \
         mkdir -p /usr/local/cargo/bin; \
         ln -s {TOOLCHAIN}/bin/cargo {TOOLCHAIN}/bin/rustc /usr/local/cargo/bin/; \
         printf '%s\\n' '[net]' 'offline = true' '[source.crates-io]' 'replace-with = \"machine\"' \
         '[source.machine]' 'directory = \"{VENDOR}\"' > /usr/local/cargo/config.toml"
    );
    let settings = format!("{}:{APT_SETTINGS}:ro", buildah.apt_settings().display());
    buildah.run(&["run", "--volume", &settings, &container, "--", "sh", "-c", &script])?;
    buildah.run(&[
        "config",
        "--env",
        "CARGO_HOME=/usr/local/cargo",
        "--env",
        "PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        &container,
    ])?;
    buildah.run(&["commit", "--quiet", "--rm", &container, &wanted.builder]).map(drop)
}
