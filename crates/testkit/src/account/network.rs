//! A VPC out of network namespaces: a bridge, and a namespace with an address for each task.
//!
//! Everything is made inside a network and a mount namespace of the test's own, so nothing of the machine is touched and
//! everything is gone when the test's process ends. Must never run an `ip` command outside of them. Read `task` next.

use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

/// The address of everything that is not a task: stand-ins, load balancer, the test itself.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
/// Where the VPC's resolver listens.
pub const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
/// Set for a test that runs in its own namespaces.
const INSIDE: &str = "WEIR_TESTKIT_INSIDE";

/// Runs a test's body in namespaces of its own: the test program is started again there, for this one test.
///
/// # Errors
/// When the namespaces cannot be made (that takes root and util-linux), and when the test fails in there.
pub fn inside<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(body());
        return Ok(());
    }
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(std::env::current_exe()?)
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .context("unshare: network namespaces take root and the package util-linux")?;
    ensure!(status.success(), "{test} failed inside its namespaces; its output is above");
    Ok(())
}

/// The bridge and what hangs on it.
#[derive(Debug)]
pub struct Network {
    tasks: u32,
    _resolv_conf: NamedTempFile,
}

/// A task's own namespace.
#[derive(Clone, Debug)]
pub struct Place {
    /// Name of the namespace.
    pub name: String,
    /// The end of its cable at the bridge.
    cable: String,
}

impl Network {
    /// The VPC 10.77.0.0/16 without tasks.
    pub(super) fn make() -> Result<Self> {
        ensure!(std::env::var_os(INSIDE).is_some(), "an account is opened within network::inside only");
        let mut resolv_conf = NamedTempFile::new()?;
        writeln!(resolv_conf, "nameserver {RESOLVER}\noptions timeout:1 attempts:2")?;
        // `ip netns` keeps its files below /run, and every process reads /etc/resolv.conf.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        let path = resolv_conf.path().display().to_string();
        run("mount", &["--bind", &path, "/etc/resolv.conf"])?;
        ip("link set lo up")?;
        // An address of its own: otherwise a bridge takes that of its lowest port, it changes with each new task, and
        // everybody else has the old one in mind for a while.
        ip("link add vpc address 02:77:00:00:00:01 type bridge")?;
        ip(&format!("addr add {GATEWAY}/16 dev vpc"))?;
        ip(&format!("addr add {RESOLVER}/16 dev vpc"))?;
        ip("link set vpc up")?;
        Ok(Self { tasks: 0, _resolv_conf: resolv_conf })
    }

    /// A namespace with an address.
    pub(super) fn place(&mut self, address: IpAddr) -> Result<Place> {
        self.tasks += 1;
        let place = Place { name: format!("task{}", self.tasks), cable: format!("cable{}", self.tasks) };
        let Place { name, cable } = &place;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {cable} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {cable} master vpc up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} addr add {address}/16 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        Ok(place)
    }
}

impl Place {
    /// Pulls the cable: packets vanish, nobody gets a reset.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unplug(&self) -> Result<()> {
        ip(&format!("link set {} down", self.cable))
    }

    /// Puts it in again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&self) -> Result<()> {
        ip(&format!("link set {} up", self.cable))
    }

    /// A command that runs in there.
    #[must_use]
    pub fn command(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

fn ip(words: &str) -> Result<()> {
    run("ip", &words.split(' ').collect::<Vec<_>>())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {error}", args.join(" "));
    Ok(())
}
