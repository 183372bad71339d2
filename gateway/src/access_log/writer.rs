//! Where lines wait, and the thread that writes them.
//!
//! Owns one bounded queue and one thread per file. A worker only ever takes the lock of its own slot, which nobody
//! else wants but the writer, for one swap a second: it must never wait for the file. When a slot is full its line
//! is dropped and counted. Next: `../stats/names.rs`, where the counts are named.

use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use crate::stats::registry::Registry;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one file's queue, over all workers and what the writer has in its hands: some 20,000 lines.
pub const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// A line waits at most so long while there is little to write (Envoy: `--file-flush-interval-msec`, 10 s there).
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Somebody else made the descriptor non-blocking (a shell that shares the terminal): how long to leave it alone.
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(10);

/// The lines of one worker.
struct Slot {
    bytes: Vec<u8>,
    lines: u64,
}

#[derive(Default)]
struct Signal {
    /// A slot is half full.
    due: bool,
    reopen: bool,
    stop: bool,
    /// Rises with each call of `flush`.
    wanted: u64,
    /// The last `wanted` that is on disk.
    done: u64,
}

/// What the workers and the writer thread share.
pub struct Queue {
    path: String,
    slot_bytes: usize,
    slots: Box<[Mutex<Slot>]>,
    signal: Mutex<Signal>,
    wake: Condvar,
    flushed: Condvar,
    registry: Arc<Registry>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("path", &self.path).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Slots hold whole lines or a truncated tail that the next push cuts: a panic leaves nothing to protect.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// An empty queue of `bytes` bytes in all.
    pub fn new(path: &str, registry: Arc<Registry>, bytes: usize) -> Self {
        let slots = registry.workers() + 1;
        // One more than there are slots: the writer holds one buffer while the workers fill theirs.
        let slot_bytes = bytes / (slots + 1);
        let slot = || Mutex::new(Slot { bytes: Vec::with_capacity(slot_bytes), lines: 0 });
        Self {
            path: path.to_owned(),
            slot_bytes,
            slots: (0..slots).map(|_| slot()).collect(),
            signal: Mutex::default(),
            wake: Condvar::new(),
            flushed: Condvar::new(),
            registry,
        }
    }

    /// Appends the line that `format` writes, of about `estimate` bytes, or drops and counts it.
    pub fn push(&self, shard: Shard, estimate: usize, format: impl FnOnce(&mut Vec<u8>)) {
        let Some(slot) = self.slots.get(shard.index()).or(self.slots.first()) else { return };
        let mut slot = locked(slot);
        let before = slot.bytes.len();
        if before + estimate > self.slot_bytes {
            drop(slot);
            return self.dropped(shard, 1);
        }
        format(&mut slot.bytes);
        let after = slot.bytes.len();
        if after > self.slot_bytes {
            // Escapes made it longer than it looked.
            slot.bytes.truncate(before);
            slot.bytes.shrink_to(self.slot_bytes);
            drop(slot);
            return self.dropped(shard, 1);
        }
        slot.lines += 1;
        drop(slot);
        let half = self.slot_bytes / 2;
        if before < half && after >= half {
            self.ask(|signal| signal.due = true);
        }
    }

    fn dropped(&self, shard: Shard, lines: u64) {
        self.registry.server.add(shard, ServerStat::AccessLogDropped, lines);
    }

    fn ask(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut locked(&self.signal));
        self.wake.notify_one();
    }

    /// Has the file opened anew by its name after what waits is written (log rotation).
    pub fn reopen(&self) {
        self.ask(|signal| signal.reopen = true);
    }

    /// Waits until every line pushed before is written, or until `deadline`. Answers whether all were.
    pub fn flush(&self, deadline: Instant) -> bool {
        let mut mine = 0;
        self.ask(|signal| {
            signal.wanted += 1;
            mine = signal.wanted;
        });
        let mut signal = locked(&self.signal);
        while signal.done < mine {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            signal = self.flushed.wait_timeout(signal, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ends the thread once what waits is written.
    pub fn stop(&self) {
        self.ask(|signal| signal.stop = true);
    }

    /// The writer thread: until it is stopped.
    pub fn run(&self, mut file: File) {
        let mut spare = Slot { bytes: Vec::with_capacity(self.slot_bytes), lines: 0 };
        let mut last_error = None;
        loop {
            let asked = self.wait();
            for slot in &self.slots {
                std::mem::swap(&mut *locked(slot), &mut spare);
                self.write(&mut file, &spare, &mut last_error);
                spare.bytes.clear();
                spare.lines = 0;
            }
            if asked.reopen {
                match open(&self.path) {
                    Ok(new) => file = new,
                    Err(error) => tracing::warn!(path = self.path, %error, "access log not reopened"),
                }
            }
            locked(&self.signal).done = asked.wanted;
            self.flushed.notify_all();
            if asked.stop {
                return;
            }
        }
    }

    /// Sleeps until something is due; takes the wishes.
    fn wait(&self) -> Signal {
        let idle = |signal: &mut Signal| {
            !(signal.due || signal.reopen || signal.stop || signal.wanted > signal.done)
        };
        let guard = locked(&self.signal);
        let (mut signal, _) =
            self.wake.wait_timeout_while(guard, FLUSH_INTERVAL, idle).unwrap_or_else(PoisonError::into_inner);
        signal.due = false;
        let reopen = std::mem::take(&mut signal.reopen);
        Signal { due: true, reopen, stop: signal.stop, wanted: signal.wanted, done: signal.done }
    }

    fn write(&self, file: &mut File, slot: &Slot, last_error: &mut Option<ErrorKind>) {
        if slot.lines == 0 {
            return;
        }
        match write_whole(file, &slot.bytes) {
            Ok(()) => {
                *last_error = None;
                self.registry.server.add(Shard::SHARED, ServerStat::AccessLogWritten, slot.lines);
            }
            Err(error) => {
                self.dropped(Shard::SHARED, slot.lines);
                if last_error.replace(error.kind()) != Some(error.kind()) {
                    tracing::warn!(path = self.path, %error, "access log lines lost");
                }
            }
        }
    }
}

fn write_whole(file: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PIPE_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a path for appending. Standard output and error are duplicated, not opened by name, because opening
/// `/dev/stdout` fails when it is a socket; their flags are left as they are.
pub fn open(path: &str) -> io::Result<File> {
    match path {
        "/dev/stdout" => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        "/dev/stderr" => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        _ => OpenOptions::new().append(true).create(true).open(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, shard: Shard, line: &str) {
        queue.push(shard, line.len(), |out| out.extend_from_slice(line.as_bytes()));
    }

    #[test]
    fn a_full_queue_drops_and_counts_the_line_and_never_blocks() {
        let registry = Arc::new(Registry::new(1));
        let queue = Queue::new("nobody writes", Arc::clone(&registry), 30);
        for _ in 0..5 {
            push(&queue, Shard::worker(0), "12345\n");
        }
        assert_eq!(registry.server.total(ServerStat::AccessLogDropped), 4, "10 bytes a slot hold one line");
        push(&queue, Shard::SHARED, "12345\n");
        assert_eq!(registry.server.total(ServerStat::AccessLogDropped), 4, "another thread has its own slot");
    }

    #[test]
    fn a_line_that_grew_by_escapes_does_not_exceed_the_queue() {
        let registry = Arc::new(Registry::new(1));
        let queue = Queue::new("nobody writes", Arc::clone(&registry), 30);
        queue.push(Shard::worker(0), 1, |out| out.extend_from_slice(&[b'x'; 100]));
        assert_eq!(registry.server.total(ServerStat::AccessLogDropped), 1);
        assert!(locked(&queue.slots[1]).bytes.is_empty());
        assert!(locked(&queue.slots[1]).bytes.capacity() < 100);
    }

    #[test]
    fn a_reader_that_stopped_reading_holds_up_neither_workers_nor_the_exit() {
        let registry = Arc::new(Registry::new(1));
        let queue = Arc::new(Queue::new("a pipe", Arc::clone(&registry), 3 * 1024 * 1024));
        let (reader, pipe) = io::pipe().expect("a pipe");
        let file = File::from(std::os::fd::OwnedFd::from(pipe));
        let thread = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || queue.run(file))
        };
        let line = "x".repeat(1023) + "\n";
        let dropped = || registry.server.total(ServerStat::AccessLogDropped);
        let mut pushed = 0;
        while dropped() == 0 {
            push(&queue, Shard::worker(0), &line);
            pushed += 1;
        }
        assert!(!queue.flush(Instant::now()), "who leaves does not wait for the reader");
        drop(reader);
        queue.stop();
        thread.join().expect("the writer ends");
        let written = registry.server.total(ServerStat::AccessLogWritten);
        assert_eq!(written + dropped(), pushed, "what the broken pipe lost is counted too");
    }

    #[test]
    fn a_writer_that_takes_one_byte_at_a_time_gets_all_of_them() {
        struct Reluctant(Vec<u8>, bool);
        impl Write for Reluctant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                self.0.extend_from_slice(&bytes[..1]);
                Ok(1)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut file = Reluctant(Vec::new(), false);
        write_whole(&mut file, b"line\n").expect("written");
        assert_eq!(file.0, b"line\n");
    }
}
