//! `cargo xtask test`: everything that must hold before a change lands, in one command.
//!
//! Owns the order of the steps, their timing and the closing table; it must never install a service or need
//! more than Rust, python3 and Debian's package tools. Next: `steps.rs` (what each step runs), `env.rs` (the
//! private test environment), `tally.rs` (how results are counted).

mod env;
mod image;
mod samples;
mod steps;
mod tally;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::workspace;
use steps::{Context, STEPS, Step};
use tally::Tally;

/// What may be said after `cargo xtask test`.
#[derive(Args)]
pub struct Options {
    /// Uses the test environment as it is.
    #[arg(long)]
    skip_setup: bool,
    /// Leaves out the step `image`, which needs root and Debian's packages.
    #[arg(long)]
    skip_image: bool,
    /// Runs only this step; may be given several times. The steps are setup, fmt, layers, clippy, build, samples,
    /// test, ignored, doc and image.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
}

struct Outcome {
    name: &'static str,
    ok: bool,
    took: Duration,
    tally: Tally,
}

/// Runs the steps that were asked for; answers whether all went well.
pub fn run(options: &Options) -> Result<bool> {
    let chosen = choose(options)?;
    let root = workspace::root()?;
    let context = Context { target: workspace::target(&root), root };
    let mut outcomes = Vec::new();
    for step in chosen {
        println!("\n== {}: {}", step.name, step.what);
        let started = Instant::now();
        let mut tally = Tally::default();
        let ok = match (step.run)(&context, &mut tally) {
            Ok(ok) => ok,
            Err(error) => {
                println!("{error:#}");
                false
            }
        };
        let took = started.elapsed();
        println!("== {}: {} after {}", step.name, verdict(ok), shown(took));
        outcomes.push(Outcome { name: step.name, ok, took, tally });
        // Without these every later step would fail for the same reason.
        if !ok && step.needed {
            println!("{} failed; what comes after it was not run", step.name);
            break;
        }
    }
    Ok(close(&outcomes))
}

fn choose(options: &Options) -> Result<Vec<&'static Step>> {
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    if let Some(unknown) = options.only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no step is called {unknown}; there are {}", known.join(", "));
    }
    let wanted = |step: &&Step| {
        (options.only.is_empty() || options.only.iter().any(|name| name == step.name))
            && !(options.skip_setup && step.name == "setup")
            && !(options.skip_image && step.name == "image")
    };
    Ok(STEPS.iter().filter(wanted).collect())
}

/// The table, the names of what failed and the plain last line; answers whether all went well.
fn close(outcomes: &[Outcome]) -> bool {
    let mut total = Tally::default();
    println!("\n{:<10} {:<7} {:>8}  tests", "step", "result", "time");
    for outcome in outcomes {
        let Outcome { name, ok, took, tally } = outcome;
        println!("{name:<10} {:<7} {:>8}  {tally}", verdict(*ok), shown(*took));
        total.add(tally);
    }
    let time: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    println!("{:<10} {:<7} {:>8}", "all", "", shown(time));
    for name in &total.failed_names {
        println!("failed: {name}");
    }
    // A step that is not a test suite counts as one test, so that a red step can never read as all green.
    let is_check = |outcome: &&Outcome| outcome.tally.is_empty();
    let checks_passed = outcomes.iter().filter(is_check).filter(|outcome| outcome.ok).count();
    let checks_failed = outcomes.iter().filter(is_check).filter(|outcome| !outcome.ok).count();
    println!("{} passed, {} failed", total.passed + checks_passed, total.failed + checks_failed);
    outcomes.iter().all(|outcome| outcome.ok)
}

fn verdict(ok: bool) -> &'static str {
    if ok { "ok" } else { "FAILED" }
}

fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ok: bool, passed: usize, failed: usize) -> Outcome {
        Outcome {
            name: "test",
            ok,
            took: Duration::from_secs(61),
            tally: Tally { passed, failed, ..Tally::default() },
        }
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_known_ones() {
        let error = choose(&Options { skip_setup: false, skip_image: false, only: vec!["tset".to_owned()] })
            .err()
            .unwrap();
        assert!(error.to_string().contains("setup, fmt, layers"), "{error}");
    }

    #[test]
    fn set_up_and_image_can_be_left_out() {
        let names = |skip_setup, skip_image, only: &[&str]| -> Vec<&str> {
            let only = only.iter().map(|name| (*name).to_owned()).collect();
            let options = Options { skip_setup, skip_image, only };
            choose(&options).unwrap().iter().map(|step| step.name).collect()
        };
        let all = names(false, false, &[]);
        assert!(all.contains(&"setup") && all.contains(&"image"));
        assert!(!names(true, false, &[]).contains(&"setup"));
        assert!(!names(false, true, &[]).contains(&"image"));
        assert_eq!(names(false, false, &["layers", "fmt"]), ["fmt", "layers"]);
    }

    #[test]
    fn one_failed_step_fails_the_whole() {
        assert!(close(&[outcome(true, 3, 0), outcome(true, 0, 0)]));
        assert!(!close(&[outcome(true, 3, 0), outcome(false, 2, 1)]));
        assert!(!close(&[outcome(false, 0, 0)]));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(shown(Duration::from_millis(1540)), "1.5 s");
        assert_eq!(shown(Duration::from_secs(125)), "2 m 05 s");
    }
}
