//! `loadtest switch`: changes the weights again and again under load, and says what the traffic saw.
//!
//! Owns running the commands. Must never judge; `switch.rs` does.

use super::args::SwitchArgs;
use super::send::{progress_bar, stream};
use super::{EXIT_FAILED, EXIT_OK, Fault};
use crate::drive::{Driven, Stopped, Stream, drive};
use crate::record::MAX_TRACE;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::switch::{Change, ChangeReport, Setting, judge};
use bytes::Bytes;
use http::Method;
use serde::Serialize;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Longest time for one command; a change is a matter of milliseconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct SwitchReport {
    #[serde(flatten)]
    run: Report,
    stale: u64,
    changes: Vec<ChangeReport>,
}

/// When a change was made.
struct Made {
    to: usize,
    issued: Instant,
    confirmed: Instant,
    error: Option<String>,
}

/// `loadtest switch`.
pub async fn switch(args: SwitchArgs) -> Result<u8, Fault> {
    if args.to.len() < 2 {
        return Err(Fault::usage("give --to at least twice: there must be something to switch between"));
    }
    // The first setting is where it begins; it is set before anything is sent.
    let first = args.to.first().ok_or_else(|| Fault::usage("--to is missing"))?;
    if let Some(error) = run_command(first).await {
        return Err(Fault::failed(format!("the first setting failed: {error}")));
    }
    // The schedule is longer than needed; the last change ends the run.
    let longest = (args.every + COMMAND_LIMIT) * args.switches.saturating_add(2);
    let schedule = Schedule::for_duration(args.rate, longest).map_err(Fault::usage)?;
    let schedule =
        Schedule::for_count(args.rate, schedule.total().min(MAX_TRACE as u64)).map_err(Fault::usage)?;
    let mut stream = stream(&args.send, schedule, Method::GET, Bytes::new(), false).await?;
    stream.trace = true;
    let made = Mutex::new(Vec::new());
    let bar = progress_bar(u64::from(args.switches));
    let driven = {
        let changes = async {
            tokio::select! {
                () = make_changes(&args, &made) => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        let progress = |_| bar.set_position(made.lock().map_or(0, |made| made.len() as u64));
        drive(stream.clone(), progress, changes).await.map_err(Fault::failed)?
    };
    bar.finish_and_clear();
    let made = made.into_inner().unwrap_or_default();
    finish(&args, &stream, driven, made)
}

async fn make_changes(args: &SwitchArgs, made: &Mutex<Vec<Made>>) {
    for n in 1..=args.switches as usize {
        tokio::time::sleep(args.every).await;
        let to = n % args.to.len();
        let Some(setting) = args.to.get(to) else { return };
        let issued = Instant::now();
        let error = run_command(setting).await;
        let change = Made { to, issued, confirmed: Instant::now(), error };
        if let Ok(mut made) = made.lock() {
            made.push(change);
        }
    }
    tokio::time::sleep(args.every).await;
}

/// What went wrong, if anything.
async fn run_command(setting: &Setting) -> Option<String> {
    let mut command = Command::new("sh");
    command.args(["-c", &setting.command]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let told = |what: String| Some(format!("`{}` {what}", setting.command));
    match tokio::time::timeout(COMMAND_LIMIT, command.output()).await {
        Err(_) => told(format!("did not end within {COMMAND_LIMIT:?}")),
        Ok(Err(error)) => told(format!("could not be run: {error}")),
        Ok(Ok(output)) if output.status.success() => None,
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            told(format!("ended with {}: {}", output.status, text.trim()))
        }
    }
}

fn finish(args: &SwitchArgs, stream: &Stream, mut driven: Driven, made: Vec<Made>) -> Result<u8, Fault> {
    let complete = made.len() == args.switches as usize;
    if complete && driven.stopped == Some(Stopped::Interrupted) {
        // The end of the changes is the end of the run; what the schedule held beyond it was never meant.
        driven.stopped = None;
        driven.not_sent = 0;
    }
    let since = |at: Instant| at.saturating_duration_since(driven.start);
    let change = |made: &Made| Change {
        allowed: args.to.get(made.to).map(|setting| setting.allowed.clone()).unwrap_or_default(),
        issued: since(made.issued),
        confirmed: since(made.confirmed),
        error: made.error.clone(),
    };
    let changes: Vec<Change> = made.iter().map(change).collect();
    let trace = driven.recorder.trace.take().unwrap_or_default();
    let changes = judge(&changes, &trace);
    let mut run = Report::new(&args.send.url.to_string(), stream, &driven, None);
    run.verb = "switch";
    run.planned = run.sent + run.not_sent;
    let stale = changes.iter().map(|change| change.stale).sum();
    if stale > 0 {
        run.reasons.push(format!("{stale} requests sent after a change was confirmed were answered by a version that it does not allow"));
    }
    run.reasons.extend(changes.iter().filter_map(|change| change.error.clone()));
    if run.unidentified > 0 {
        run.reasons.push(format!("{} answers did not say their version; see --by", run.unidentified));
    }
    if !complete {
        run.reasons.push(format!("only {} of {} changes were made", changes.len(), args.switches));
    }
    run.ok = run.reasons.is_empty();
    let report = SwitchReport { run, stale, changes };
    print(args, &report)?;
    Ok(if report.run.ok { EXIT_OK } else { EXIT_FAILED })
}

fn print(args: &SwitchArgs, report: &SwitchReport) -> Result<(), Fault> {
    if args.send.json {
        println!("{}", serde_json::to_string_pretty(report).map_err(Fault::failed)?);
        return Ok(());
    }
    println!(
        "{:20} {:>14} {:>20} {:>20} {:>7}",
        "change to", "confirmed", "last sent to old", "first sent to new", "stale"
    );
    let after = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("after {ms:.2} ms"));
    for change in &report.changes {
        println!(
            "{:20} {:>14} {:>20} {:>20} {:>7}",
            change.to.join("+"),
            after(Some(change.confirmed_after_ms)),
            after(change.last_old_after_ms),
            after(change.first_new_after_ms),
            change.stale
        );
    }
    print!("\n{}", report.run);
    Ok(())
}
