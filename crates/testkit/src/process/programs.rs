//! The programs that tests know by name: our own binaries, moto, the real Envoy, Prometheus.
//!
//! Finds and starts them; never fetches or builds them (`cargo xtask test` does). A test that uses an outside program is ignored by
//! default, with the reason `needs moto` and the like.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::Process;
use crate::client::{Response, post};
use crate::{free_port, standin};

/// The folder of the profile that the running program was built in, such as `target/debug`.
fn profile_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("the path of this program")?;
    let folder = exe.parent().context("the folder of this program")?;
    let inner = folder.ends_with("deps") || folder.ends_with("examples");
    let folder = if inner { folder.parent() } else { Some(folder) };
    if let Some(folder) = folder.filter(|folder| folder.join("deps").is_dir()) {
        return Ok(folder.to_owned());
    }
    // A documentation test runs from a temporary folder.
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    Ok(target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("debug"))
}

/// One of our own binaries, of the same profile as the running test.
///
/// # Errors
/// When it has not been built; the error says how to.
pub fn bin(name: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    ensure!(path.is_file(), "{} does not exist: run `cargo build --bins` first", path.display());
    Ok(path)
}

/// A program or file of the private test environment: WEIR_TEST_ENV, else `target/test-env`.
///
/// # Errors
/// When it is not there; the error says how to get it.
pub fn test_env(file: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("WEIR_TEST_ENV") {
        Some(folder) => PathBuf::from(folder),
        None => profile_dir()?.parent().context("the target folder")?.join("test-env"),
    };
    let path = folder.join(file);
    ensure!(path.exists(), "{} does not exist: run `cargo xtask test --only setup` first", path.display());
    Ok(path)
}

/// moto as Cloud Map and App Mesh, with metadata that the Rust SDK can read.
#[derive(Debug)]
pub struct Moto {
    /// The running server.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Moto {
    /// Starts it on a free port and waits until it serves.
    ///
    /// # Errors
    /// When the test environment is not set up, or moto does not start.
    pub async fn start() -> Result<Self> {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// Starts it on a free port of an address, within network namespaces of its own.
    ///
    /// # Errors
    /// As [`Moto::start`].
    pub async fn start_on(address: IpAddr) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/moto_epoch.py");
        let mut command = Command::new(test_env("venv/bin/python3")?);
        command.arg("-u").arg(script).args(["-H", &address.to_string(), "-p", "0"]);
        let process = Process::spawn("moto", &mut command)?;
        let line = process.line("Running on http://").await?;
        let addr = line.rsplit("http://").next().map(|addr| addr.trim().parse());
        let addr = addr.context("no address")?.with_context(|| format!("no address in {line:?}"))?;
        Ok(Self { process, addr })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The environment that points an AWS SDK at it.
    #[must_use]
    pub fn envs(&self) -> Vec<(String, String)> {
        standin::envs(&self.url())
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// When moto does not answer.
    pub async fn reset(&self) -> Result<Response> {
        post(self.addr, "/moto-api/reset", b"").await
    }
}

/// The real Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The running server.
    pub process: Process,
    /// Where its admin interface listens; None if the configuration has none.
    pub admin: Option<SocketAddr>,
    _folder: TempDir,
}

impl Envoy {
    /// Starts it with one worker on a bootstrap configuration (YAML or JSON) and waits until its listeners are bound.
    ///
    /// # Errors
    /// When the test environment is not set up, or Envoy refuses the configuration.
    pub async fn start(config: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let (file, admin) = (folder.path().join("envoy.yaml"), folder.path().join("admin"));
        std::fs::write(&file, config)?;
        let mut command = Command::new(test_env("bin/envoy")?);
        command.arg("-c").arg(&file).arg("--admin-address-path").arg(&admin);
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "info"]);
        let process = Process::spawn("envoy", &mut command)?;
        process.line("starting main dispatch loop").await?;
        let admin = std::fs::read_to_string(&admin).ok().and_then(|text| text.trim().parse().ok());
        Ok(Self { process, admin, _folder: folder })
    }
}

/// The real Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// The running server.
    pub process: Process,
    /// Where its HTTP API listens.
    pub addr: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it on a configuration (YAML) with an empty database and waits until it serves.
    ///
    /// # Errors
    /// When the test environment is not set up, or Prometheus refuses the configuration.
    pub async fn start(config: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new(test_env("bin/prometheus")?);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={addr}"));
        let process = Process::spawn("prometheus", &mut command)?;
        process.line("Server is ready to receive web requests").await?;
        Ok(Self { process, addr, _folder: folder })
    }
}

/// What `promtool check metrics` says of a scrape; empty if it has nothing to say.
///
/// # Errors
/// When the test environment is not set up, or promtool calls the text malformed.
pub fn promtool_check_metrics(text: &str) -> Result<String> {
    let mut command = Command::new(test_env("bin/promtool")?);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // promtool reads everything before it says anything.
        input.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // 3 is its code for style remarks, which Envoy's own names earn too.
    if !matches!(output.status.code(), Some(0 | 3)) {
        bail!("promtool: {said}");
    }
    Ok(said)
}
