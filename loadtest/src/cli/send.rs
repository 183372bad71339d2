//! `loadtest split` and `loadtest run`: flags into a stream, a progress bar, a report.

use super::args::{RunArgs, SendArgs, SplitArgs};
use super::{EXIT_FAILED, EXIT_OK, Fault};
use crate::client::{Protocol, Recipe, Target};
use crate::drive::{Stream, drive};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::split::Expected;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How long past the scheduled end requests may still be sent when `--time-limit` does not say.
const GRACE: Duration = Duration::from_secs(30);

/// What a browser sends and what an AWS load balancer adds: 16 header lines with Host and User-Agent.
const BROWSER_HEADERS: [(&str, &str); 14] = [
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("x-amzn-trace-id", "Root=1-67891233-abcdef012345678912345678"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("referer", "https://shop.example.com/catalogue?page=2"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; consent=yes; theme=dark"),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("cache-control", "max-age=0"),
];

const BROWSER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// `loadtest split`.
pub async fn split(args: SplitArgs) -> Result<u8, Fault> {
    let schedule = Schedule::for_count(args.rate, args.requests).map_err(Fault::usage)?;
    let body = Bytes::from(args.body.unwrap_or_default());
    let stream = stream(&args.send, schedule, args.method, body, false).await?;
    report(&args.send, stream, Some(&args.expect)).await
}

/// `loadtest run`.
pub async fn run(args: RunArgs) -> Result<u8, Fault> {
    let schedule = Schedule::for_duration(args.rate, args.duration).map_err(Fault::usage)?;
    let (method, body) = match args.post {
        Some(bytes) => (Method::POST, Bytes::from(vec![b'x'; bytes as usize])),
        None => (Method::GET, Bytes::new()),
    };
    let mut stream = stream(&args.send, schedule, method, body, args.close).await?;
    if args.browser {
        add_browser_headers(&mut stream.recipe.headers);
    }
    report(&args.send, stream, None).await
}

pub(super) async fn stream(
    args: &SendArgs,
    schedule: Schedule,
    method: Method,
    body: Bytes,
    close: bool,
) -> Result<Stream, Fault> {
    let target = Target::resolve(&args.url).await.map_err(Fault::failed)?;
    let mut headers = args.headers.clone();
    add_missing(&mut headers, header::USER_AGENT, concat!("loadtest/", env!("CARGO_PKG_VERSION")));
    let protocol = if args.http2 { Protocol::Http2 } else { Protocol::Http1 };
    let wanted = usize::try_from(args.connections).unwrap_or(usize::MAX);
    Ok(Stream {
        recipe: Recipe { target, method, headers, body, protocol, close },
        // More connections than requests would only be opened.
        connections: wanted.min(usize::try_from(schedule.total()).unwrap_or(usize::MAX)),
        streams: usize::try_from(args.streams).unwrap_or(1),
        request_timeout: args.timeout,
        time_limit: args.time_limit.unwrap_or(schedule.length() + GRACE),
        identify: args.by.clone(),
        trace: false,
        schedule,
    })
}

fn add_missing(headers: &mut Vec<(HeaderName, HeaderValue)>, name: HeaderName, value: &'static str) {
    if !headers.iter().any(|(other, _)| *other == name) {
        headers.push((name, HeaderValue::from_static(value)));
    }
}

fn add_browser_headers(headers: &mut Vec<(HeaderName, HeaderValue)>) {
    headers
        .retain(|(name, value)| *name != header::USER_AGENT || !value.as_bytes().starts_with(b"loadtest/"));
    add_missing(headers, header::USER_AGENT, BROWSER_AGENT);
    for (name, value) in BROWSER_HEADERS {
        add_missing(headers, HeaderName::from_static(name), value);
    }
}

async fn report(args: &SendArgs, stream: Stream, expected: Option<&Expected>) -> Result<u8, Fault> {
    let bar = progress_bar(stream.schedule.total());
    // Without a handler Ctrl-C ends the process without a report, which is no worse than before.
    let stop = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let driven = drive(stream.clone(), |done| bar.set_position(done), stop).await.map_err(Fault::failed)?;
    bar.finish_and_clear();
    let report = Report::new(&args.url.to_string(), &stream, &driven, expected);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(Fault::failed)?);
    } else {
        print!("{report}");
    }
    Ok(if report.ok { EXIT_OK } else { EXIT_FAILED })
}

/// Drawn on standard error, and only when that is a terminal.
pub(super) fn progress_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {elapsed} of about {duration}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_sends_sixteen_header_lines_with_host() {
        let mut headers = Vec::new();
        add_missing(&mut headers, header::USER_AGENT, "loadtest/0");
        add_browser_headers(&mut headers);
        assert_eq!(headers.len() + 1, 16);
        assert!(headers.iter().any(|(name, value)| *name == header::USER_AGENT && value == BROWSER_AGENT));
    }

    #[test]
    fn a_header_given_by_hand_is_kept() {
        let mut headers = vec![(header::USER_AGENT, HeaderValue::from_static("mine"))];
        add_missing(&mut headers, header::USER_AGENT, "loadtest/0");
        add_browser_headers(&mut headers);
        assert_eq!(headers[0].1, "mine");
        assert_eq!(headers.iter().filter(|(name, _)| *name == header::USER_AGENT).count(), 1);
    }
}
