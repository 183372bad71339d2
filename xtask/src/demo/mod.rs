//! `cargo demo`: the whole product on one machine, each part a process of its own, spoken to as in production.
//!
//! Owns the order of what the demo does; it must never do what a part of Weir does. Next: `parts.rs` (how each
//! part is started), `children.rs` (how each is ended), `script.rs` (what `--for` plays).

mod children;
mod http;
mod live;
mod parts;
mod ports;
mod script;
mod traffic;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{programs, shell, workspace};
use children::Children;
use live::{Line, Split};
use script::{Act, SCENES};
use traffic::Traffic;

/// What may be said after `cargo demo --`.
#[derive(Args, Clone)]
pub struct Options {
    /// Ends after this time, for example 20s or 2m; with --traffic it also plays a weight change and a kill of v2.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    length: Option<Duration>,
    /// Sends its own requests, so many a second.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    traffic: Option<u32>,
    /// Port of the gateway.
    #[arg(long, default_value_t = 9080)]
    port: u16,
    /// Port of the gateway's admin.
    #[arg(long, default_value_t = 9901)]
    admin_port: u16,
    /// Port of control.
    #[arg(long, default_value_t = 18000)]
    control_port: u16,
    /// Port of the Cloud Map and App Mesh stand-in.
    #[arg(long, default_value_t = 14566)]
    standin_port: u16,
    /// Port of v1's backend.
    #[arg(long, default_value_t = 9001)]
    v1_port: u16,
    /// Port of v2's backend.
    #[arg(long, default_value_t = 9002)]
    v2_port: u16,
}

/// How often signals and children are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the live line is drawn.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// The gateway is LIVE 15 s after its start at the latest.
const LIVE_WITHIN: Duration = Duration::from_secs(25);

/// Runs the demo; answers whether every request of its own traffic was answered.
pub fn run(options: Options) -> Result<bool> {
    ports::check(&parts::ports(&options))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot listen for signals")?;
    }
    let built = programs::build(&workspace::root()?);
    if stop.load(Relaxed) {
        println!("\nstopped");
        return Ok(true);
    }
    let binaries = built?;
    // Again, for a build takes minutes.
    ports::check(&parts::ports(&options))?;
    let mut folder = Scratch::new()?;
    // After the folder, so that it is dropped first: the parts write there until they end.
    let mut demo =
        Demo { children: Children::new(&folder.path), options, binaries, folder: folder.path.clone(), stop };
    let played = demo.start().and_then(|()| demo.play());
    if demo.stop.load(Relaxed) && played.is_err() {
        println!("\nstopped");
        return Ok(true);
    }
    println!("\nending what was started");
    demo.children.end();
    folder.keep = !matches!(played, Ok(true));
    played
}

/// A folder for configurations and logs; removed at the end unless something went wrong.
struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep: false })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("logs and configurations stay in {}", self.path.display());
        } else {
            // What stays behind is small and in the system's temporary folder.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

struct Demo {
    children: Children,
    options: Options,
    binaries: PathBuf,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Demo {
    /// Starts every part and waits until the gateway is LIVE and both versions answer.
    fn start(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.start_standin()?;
        self.await_part("the stand-in", |options| {
            http::ask(options.standin_port, parts::STANDIN_READY, None)
        })?;
        for (path, body) in parts::standin_setup() {
            let answer = http::ask(self.options.standin_port, path, Some(&body))?;
            ensure!(answer.status == 200, "the stand-in refused {path}: {}", answer.body);
        }
        self.start_backend("v1")?;
        self.start_backend("v2")?;
        self.await_part("v1's backend", |options| http::ask(options.v1_port, "/", None))?;
        self.await_part("v2's backend", |options| http::ask(options.v2_port, "/", None))?;
        self.start_control()?;
        self.start_gateway()?;
        self.await_part("the gateway", |options| {
            let answer = http::ask(options.admin_port, "/server_info", None)?;
            if !answer.body.contains("LIVE") {
                bail!("{}", answer.body);
            }
            http::ask(options.port, "/", None)
        })?;
        println!("{}", parts::picture(&self.options));
        println!("LIVE {:.1} s after the start. Ctrl-C ends everything.", begun.elapsed().as_secs_f64());
        println!("Logs and configurations, until then: {}\n", self.folder.display());
        println!("Try, in another terminal:\n{}\n", parts::commands(&self.options));
        Ok(())
    }

    /// Waits until a part answers 200.
    fn await_part(&mut self, name: &str, ask: impl Fn(&Options) -> Result<http::Answer>) -> Result<()> {
        let until = Instant::now() + LIVE_WITHIN;
        loop {
            self.look()?;
            match ask(&self.options) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) if Instant::now() > until => {
                    bail!("{name} answers {}: {}", answer.status, answer.body)
                }
                Err(error) if Instant::now() > until => {
                    return Err(error.context(format!("{name} does not answer")));
                }
                _ => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// An error when the demo is asked to end or a part has ended by itself.
    fn look(&mut self) -> Result<()> {
        if self.stop.load(Relaxed) {
            bail!("stopped");
        }
        self.children.all_alive()
    }

    /// Shows the split until the end; with traffic and a length, plays the script.
    fn play(&mut self) -> Result<bool> {
        let mut watch = Watch::new(Split::read(self.options.admin_port)?);
        let traffic =
            self.options.traffic.map(|rate| Traffic::start(self.options.port, f64::from(rate), SCENES.len()));
        let phases = match (traffic, self.options.length) {
            (Some(traffic), Some(length)) => {
                for (phase, scene) in SCENES.iter().enumerate() {
                    self.watch_until(&mut watch, Some(script::moment(scene, length)))?;
                    traffic.enter_phase(phase);
                    self.act(scene.act, &mut watch)?;
                }
                self.watch_until(&mut watch, Some(length))?;
                let phases = traffic.finish();
                println!("\n{}", script::table(&phases));
                phases
            }
            (traffic, length) => {
                self.watch_until(&mut watch, length)?;
                let phases = traffic.map(Traffic::finish).unwrap_or_default();
                if !phases.is_empty() {
                    println!("\n{}", script::sum(&phases));
                }
                phases
            }
        };
        Ok(phases.iter().all(|counts| counts.failed == 0))
    }

    /// Draws the live line until this long after the beginning, for ever without an end; Ctrl-C ends it early.
    fn watch_until(&mut self, watch: &mut Watch, end: Option<Duration>) -> Result<()> {
        while !self.stop.load(Relaxed) && end.is_none_or(|end| watch.begun.elapsed() < end) {
            self.children.all_alive()?;
            if watch.drawn.elapsed() >= DRAW_EVERY {
                watch.drawn = Instant::now();
                // A statistics page that is late once is no reason to end the demo.
                if let Ok(now) = Split::read(self.options.admin_port) {
                    watch.line.show(now)?;
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
        watch.line.leave();
        Ok(())
    }

    /// Does what begins a scene, and says so.
    fn act(&mut self, act: Act, watch: &mut Watch) -> Result<()> {
        if self.stop.load(Relaxed) {
            return Ok(());
        }
        let say = |text: &str| println!("{:5.1} s  {text}", watch.begun.elapsed().as_secs_f64());
        match act {
            Act::None | Act::Raised => {}
            Act::Raise => {
                say("control set-weight svc1 v1=90 v2=10");
                let said = shell::quiet(&mut parts::set_weight(&self.binaries, &self.options))?;
                said.lines().for_each(&say);
            }
            Act::Kill => {
                say("kill -9 of v2's backend");
                self.children.kill("v2")?;
            }
            Act::Restart => {
                say("v2's backend is started again");
                self.start_backend("v2")?;
            }
        }
        Ok(())
    }

    fn start_standin(&mut self) -> Result<()> {
        let program = self.binaries.join("standin");
        self.children.start("standin", &program, |command| parts::standin(command, &self.options))
    }

    fn start_backend(&mut self, name: &str) -> Result<()> {
        let program = self.binaries.join("loadtest");
        self.children.start(name, &program, |command| parts::backend(command, &self.options, name))
    }

    fn start_control(&mut self) -> Result<()> {
        let file = self.folder.join("control.yaml");
        write(&file, &parts::control_config(&self.options, &self.folder))?;
        let program = self.binaries.join("control");
        self.children.start("control", &program, |command| parts::control(command, &self.options, &file))
    }

    fn start_gateway(&mut self) -> Result<()> {
        let file = self.folder.join("gateway.yaml");
        write(&file, &parts::gateway_config(&self.options))?;
        let program = self.binaries.join("gateway");
        self.children.start("gateway", &program, |command| parts::gateway(command, &self.options, &file))
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// What is shown while time passes.
struct Watch {
    begun: Instant,
    drawn: Instant,
    line: Line,
}

impl Watch {
    fn new(first: Split) -> Self {
        let now = Instant::now();
        Self { begun: now, drawn: now, line: Line::new(first) }
    }
}

/// `20s`, `2m`, `500ms`, or seconds without a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits).unwrap_or_default() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        other => return Err(format!("`{other}` is no unit of time; write 20s or 2m")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no time; write 20s or 2m"))?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| format!("`{text}` is no time; write 20s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "s", "-3s", "2 weeks", "20x"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
