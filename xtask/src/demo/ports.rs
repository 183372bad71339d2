//! The ports of the demo: which part has which, whether they are free, and who holds one that is not.
//!
//! Owns the look into `/proc` for the owner; it must never keep a port bound. Next: `mod.rs`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// A port that the demo needs.
pub struct Wanted {
    /// The port.
    pub port: u16,
    /// What listens there.
    pub what: &'static str,
    /// The flag that chooses another one.
    pub flag: &'static str,
}

/// An error that names every wanted port that is taken, with its owner and the flag that changes it.
pub fn check(wanted: &[Wanted]) -> Result<()> {
    let mut taken = Vec::new();
    for (at, Wanted { port, what, flag }) in wanted.iter().enumerate() {
        if let Some(other) = wanted.iter().take(at).find(|other| other.port == *port) {
            taken.push(format!(
                "port {port} is given to {} and to {what}; change it with {flag} PORT",
                other.what
            ));
            continue;
        }
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let owner = owner(*port).unwrap_or_else(|| "another program".to_owned());
                taken.push(format!(
                    "port {port}, wanted for {what}, is in use by {owner}; choose another with {flag} PORT"
                ));
            }
            Err(error) => {
                taken.push(format!("port {port}, wanted for {what}, cannot be bound: {error}; choose another with {flag} PORT"));
            }
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    bail!("{}\n(flags go after `cargo demo --`)", taken.join("\n"))
}

/// Name and process id of the program that listens on a port, where `/proc` tells.
fn owner(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listener_inode(line, port)).collect::<Vec<_>>())
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes of other users and processes that ended meanwhile cannot be read.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok()).any(
            |link| {
                link.to_str()
                    .and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'))
                    .is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
            },
        );
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// The inode in a line of `/proc/net/tcp` when it is a listener (state 0A) on this port.
fn listener_inode(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let listens = state == "0A" && u16::from_str_radix(local_port, 16).ok()? == port;
    // After the state: two queues, two timers, the user, the timeout, the inode.
    listens.then(|| fields.nth(5).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let line = "   0: 00000000:2378 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 51234 1 0 100 0 0 10 0";
        assert_eq!(listener_inode(line, 9080).as_deref(), Some("51234"));
        assert_eq!(listener_inode(line, 9081), None);
        assert_eq!(listener_inode(&line.replace(" 0A ", " 01 "), 9080), None);
        assert_eq!(listener_inode("  sl  local_address rem_address   st tx_queue", 9080), None);
    }

    #[test]
    fn a_port_in_use_is_named_with_its_owner_and_the_flag() {
        let held = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let error = check(&[Wanted { port, what: "the gateway", flag: "--port" }]).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port}")) && error.contains("--port PORT"), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        }
    }

    #[test]
    fn all_ports_in_use_are_named_at_once() {
        let one = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let two = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let wanted = [
            Wanted { port: one.local_addr().unwrap().port(), what: "a", flag: "--a-port" },
            Wanted { port: two.local_addr().unwrap().port(), what: "b", flag: "--b-port" },
        ];
        let error = check(&wanted).unwrap_err().to_string();
        assert!(error.contains("--a-port") && error.contains("--b-port"), "{error}");
    }

    #[test]
    fn one_port_for_two_parts_is_refused() {
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
        let wanted = [
            Wanted { port: free, what: "a", flag: "--a-port" },
            Wanted { port: free, what: "b", flag: "--b-port" },
        ];
        assert!(check(&wanted).unwrap_err().to_string().contains("given to a and to b"));
    }
}
