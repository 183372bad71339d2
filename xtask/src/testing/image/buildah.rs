//! buildah with a store of its own, and what this needs of the machine.
//!
//! Owns how buildah is called. Its images, containers and caches are all below one folder; removing that is the way to
//! start over. Must never touch the machine's own store. Next: `base.rs`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::shell;
use crate::testing::env;

/// Where the machine's way to Debian's packages is lent to a container.
pub const APT_SETTINGS: &str = "/etc/apt/apt.conf.d/99machine";

/// buildah, at work below one folder.
pub struct Buildah {
    folder: PathBuf,
}

/// What an image says about itself.
pub struct Image {
    /// The part that a container is started from: `User`, `Cmd`, `Healthcheck`.
    pub config: Value,
    /// The sum of its files.
    pub bytes: u64,
}

impl Buildah {
    /// Finds or installs the programs that this needs.
    pub fn prepare(folder: &Path) -> Result<Self> {
        // Of this very process: the owner of its entry is the effective user.
        let user = std::fs::metadata("/proc/self").context("cannot read /proc/self")?.uid();
        if user != 0 {
            bail!(
                "the image is built and started without Docker, in change roots and a network of its own, which needs root: \
                 run `cargo xtask test` as root, or leave this step out with --skip-image"
            );
        }
        for (program, asked, package) in [
            ("buildah", "--version", "buildah"),
            ("debootstrap", "--version", "debootstrap"),
            ("ip", "-V", "iproute2"),
            ("nsenter", "--version", "util-linux"),
        ] {
            env::from_debian(program, asked, package).with_context(|| {
                format!(
                    "{program} could not be had from Debian's packages, and the image cannot be checked without it \
                     (--skip-image leaves this step out)"
                )
            })?;
        }
        // Absolute: what buildah is told becomes a mount, and its working folder is not ours.
        std::fs::create_dir_all(folder.join("tmp"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let this = Self { folder };
        this.save_apt_settings()?;
        // What a run that was killed left behind.
        this.run(&["rm", "--all"])?;
        Ok(this)
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that is mounted at [`APT_SETTINGS`].
    pub fn apt_settings(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }

    /// A proxy, or a clock that disagrees with the archive's, is the machine's affair and stays out of the Dockerfile.
    fn save_apt_settings(&self) -> Result<()> {
        let all = shell::quiet(Command::new("apt-config").arg("dump"))?;
        let wanted = ["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries"];
        let kept: Vec<&str> =
            all.lines().filter(|line| wanted.iter().any(|start| line.starts_with(start))).collect();
        std::fs::write(self.apt_settings(), kept.join("\n") + "\n").context("cannot write apt.conf")
    }

    /// A command of buildah. No kernel feature beyond mounts is used: copies instead of layers, a change root instead
    /// of a container.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        self.set_up(&mut command);
        command.args(self.place()).args(words);
        command
    }

    /// The same, where another program has to start it.
    pub fn command_by(&self, mut starter: Command, words: &[&str]) -> Command {
        self.set_up(&mut starter);
        starter.arg("buildah").args(self.place()).args(words);
        starter
    }

    fn set_up(&self, command: &mut Command) {
        command.env("STORAGE_DRIVER", "vfs").env("BUILDAH_ISOLATION", "chroot");
        // Its caches are below this folder as well.
        command.env("TMPDIR", self.folder.join("tmp"));
    }

    fn place(&self) -> [PathBuf; 4] {
        ["--root".into(), self.folder.join("storage"), "--runroot".into(), self.folder.join("run")]
    }

    /// Runs a command to its end; answers what it printed, without the end of the line.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        shell::quiet(&mut self.command(words)).map(|said| said.trim().to_owned())
    }

    /// Whether there is an image of this name.
    pub fn has(&self, image: &str) -> bool {
        self.run(&["inspect", "--type", "image", image]).is_ok()
    }

    /// The sum of an image's files; they are copied into one folder, and measured there.
    fn bytes(&self, image: &str) -> Result<u64> {
        let container = self.run(&["from", "--pull-never", image])?;
        let measured = self.run(&["mount", &container]).and_then(|folder| {
            let said = shell::quiet(Command::new("du").args(["-sxb", &folder]))?;
            said.split_whitespace().next().and_then(|word| word.parse().ok()).context("du named no size")
        });
        self.run(&["rm", &container])?;
        measured
    }

    /// What an image says about itself.
    pub fn inspect(&self, image: &str) -> Result<Image> {
        let said = self.run(&["inspect", "--type", "image", image])?;
        let said: Value = serde_json::from_str(&said).context("buildah inspect did not print JSON")?;
        let config = said.pointer("/Docker/config").cloned().context("the image has no configuration")?;
        Ok(Image { config, bytes: self.bytes(image)? })
    }
}
