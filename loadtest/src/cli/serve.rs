//! `loadtest upstream`: listen, register, say so, serve until told to stop, deregister, drain.

use super::args::UpstreamArgs;
use super::{EXIT_OK, Fault};
use crate::register::{Registered, register};
use crate::upstream::{Options, Upstream};
use lifecycle::signals::{Shutdown, ShutdownSignals};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a registered backend serves on after it has deregistered: longer than gateways need to notice.
const DRAIN_WHEN_REGISTERED: Duration = Duration::from_secs(5);

/// `loadtest upstream`.
pub async fn upstream(args: UpstreamArgs) -> Result<u8, Fault> {
    let address = SocketAddr::new(args.host, args.port);
    let mut signals = lifecycle::signals::shutdown().map_err(Fault::failed)?;
    let options = Options {
        name: args.name.clone(),
        error_rate: args.error_rate,
        error_status: args.error_status,
        delay: args.delay,
        keep_alive: args.keep_alive,
        keep_alive_header: args.keep_alive_header,
    };
    let upstream = Upstream::bind(address, options).map_err(|error| cannot_listen(address, &error))?;
    let listening = upstream.address();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(upstream.serve(stopped));
    let registered = match (&args.registry, &args.register) {
        (Some(registry), Some(registration)) => {
            let registered = register(&registry.to_string(), registration, listening).await;
            Some(registered.map_err(Fault::failed)?)
        }
        _ => None,
    };
    // Whoever reads the line may have gone; that is no reason not to serve.
    drop(writeln!(io::stdout(), "ready: {} on {listening}", args.name));
    drop(io::stdout().flush());
    signals.recv().await;
    let drain =
        args.drain.unwrap_or(if registered.is_some() { DRAIN_WHEN_REGISTERED } else { Duration::ZERO });
    tokio::select! {
        () = end(registered, drain, stop, serving) => {}
        () = second(&mut signals) => {}
    }
    Ok(EXIT_OK)
}

async fn end(
    registered: Option<Registered>,
    drain: Duration,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
) {
    if let Some(registered) = registered
        && let Err(error) = registered.deregister().await
    {
        eprintln!("loadtest: still registered: {error}");
    }
    tokio::time::sleep(drain).await;
    stop.send_replace(true);
    drop(serving.await);
}

async fn second(signals: &mut ShutdownSignals) {
    while signals.recv().await != Shutdown::Immediate {}
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Fault {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "; the port is taken: see who has it with `ss -ltnp 'sport = :{}'`, or give another --port (0 lets the kernel choose)",
                address.port()
            )
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root, give another --port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "; --host must be an address of this machine".to_owned(),
        io::ErrorKind::InvalidInput => "; give another --name".to_owned(),
        _ => String::new(),
    };
    Fault::failed(format!("cannot listen on {address}: {error}{cure}"))
}
