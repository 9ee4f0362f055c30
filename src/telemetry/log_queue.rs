//! The queue of log lines for stderr: a buffer of a bounded size, and a thread that empties it.
//!
//! A reader of stderr that is slow or has stopped delays only this thread. Lines for which the
//! queue has no room are dropped and counted.

use std::{
    io::{self, Write},
    mem,
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

/// Lines on their way to a writer.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    lines: Mutex<Lines>,
    /// Lines were added, or all of them are written.
    changed: Condvar,
    /// Bytes that may wait; as many are being written.
    bytes_max: AtomicUsize,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    count: u64,
    /// The thread has taken lines that are not written yet.
    is_writing: bool,
}

impl LogQueue {
    /// Adds a line, or several that belong together; never waits for the writer. An empty queue
    /// also accepts a text that is longer than the bound.
    pub(super) fn push(&self, text: &[u8]) {
        let mut lines = self.lines.lock();
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        if !lines.text.is_empty() && lines.text.len() + text.len() > bytes_max {
            self.dropped.inc();
            return;
        }
        lines.text.extend_from_slice(text);
        lines.count += 1;
        self.changed.notify_all();
    }

    /// Waits until everything is written, for a bounded time; whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut lines = self.lines.lock();
        while lines.is_writing || !lines.text.is_empty() {
            if self.changed.wait_until(&mut lines, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Writes lines as they are added, for ever. Lines that the writer refuses are dropped.
    fn write_to(&self, mut writer: impl Write) {
        let mut taken = Vec::new();
        let mut reported = 0;
        loop {
            let mut lines = self.lines.lock();
            while lines.text.is_empty() {
                self.changed.wait(&mut lines);
            }
            mem::swap(&mut lines.text, &mut taken);
            let count = mem::take(&mut lines.count);
            lines.is_writing = true;
            drop(lines);
            let is_written = writer.write_all(&taken).is_ok();
            taken.clear();
            if !is_written {
                self.dropped.inc_by(count);
            }
            // A failing writer would refuse this report too, and that would cause another report.
            // The report is queued before `flush` can find the queue empty.
            let dropped = self.dropped.get();
            if is_written && mem::replace(&mut reported, dropped) < dropped {
                tracing::warn!(
                    dropped,
                    "log lines were dropped: the reader of stderr was too slow"
                );
            }
            self.lines.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

/// The queue to stderr; a process has one.
static STDERR: LazyLock<LogQueue> = LazyLock::new(LogQueue::default);
/// Whether the thread that writes has been started.
static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// Starts the thread that writes to stderr, once; `bytes_max` bytes may wait for it.
pub(super) fn start(bytes_max: usize) -> io::Result<&'static LogQueue> {
    STDERR.bytes_max.store(bytes_max, Ordering::Relaxed);
    if !IS_STARTED.swap(true, Ordering::AcqRel) {
        let thread = thread::Builder::new().name("visnyk-log".into());
        if let Err(error) = thread.spawn(|| STDERR.write_to(io::stderr())) {
            IS_STARTED.store(false, Ordering::Release);
            return Err(error);
        }
    }
    Ok(&STDERR)
}

/// Counts lines that were dropped, in the whole process.
pub(super) fn dropped() -> Counter {
    STDERR.dropped.clone()
}

/// Writes plain text to stderr, after the lines that were logged before.
pub(super) fn print(text: &str) {
    match IS_STARTED.load(Ordering::Acquire) {
        true => STDERR.push(text.as_bytes()),
        // If stderr is closed, the error cannot be reported.
        false => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Waits until stderr has all logged lines, for a second at most. Called when the process ends.
pub fn flush() {
    if IS_STARTED.load(Ordering::Acquire) {
        STDERR.flush(FLUSH_TIME_MAX);
    }
}

/// How long the end of a process waits for a reader of stderr that reads nothing.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// Hands over what it is given, and waits each time to be let go.
    struct Stuck {
        written: mpsc::Sender<String>,
        go: mpsc::Receiver<io::Result<usize>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(String::from_utf8_lossy(bytes).into_owned()).expect("it is read");
            self.go.recv().unwrap_or(Ok(0)).map(|_| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_is_stuck_holds_no_other_thread_up_and_what_does_not_fit_is_counted() {
        let queue = LogQueue { bytes_max: AtomicUsize::new(BYTES_MAX), ..LogQueue::default() };
        let queue = Arc::new(queue);
        let (written, read) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let writing = Arc::clone(&queue);
        thread::spawn(move || writing.write_to(Stuck { written, go: wait }));
        queue.push(b"first\n");
        assert_eq!(read.recv().as_deref(), Ok("first\n"));
        let line = "x".repeat(BYTES_MAX / 2);
        for dropped in [0, 0, 1, 2] {
            queue.push(line.as_bytes());
            assert_eq!(queue.dropped.get(), dropped, "two fit");
        }
        assert!(!queue.flush(Duration::from_millis(1)), "it is stuck");
        go.send(Ok(0)).expect("it waits");
        assert_eq!(read.recv(), Ok(line.repeat(2)), "in one go");
        go.send(Err(io::ErrorKind::BrokenPipe.into())).expect("it waits");
        assert!(queue.flush(Duration::from_secs(20)));
        assert_eq!(queue.dropped.get(), 4, "and two that the writer has refused");
        queue.push(b"last\n");
        assert_eq!(read.recv().as_deref(), Ok("last\n"));
    }

    /// A writer whose reader is gone.
    struct Broken(mpsc::Sender<()>);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.send(()).expect("attempts are counted");
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a logging layer writes goes to the queue.
    struct Lines(&'static LogQueue);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.push(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_fails_is_tried_once_for_each_line_and_gets_no_report_of_it() {
        let queue = LogQueue { bytes_max: AtomicUsize::new(1_000), ..LogQueue::default() };
        let queue: &'static LogQueue = Box::leak(Box::new(queue));
        let (attempt, attempts) = mpsc::channel();
        thread::spawn(move || {
            let logs = tracing_subscriber::fmt().with_writer(move || Lines(queue)).finish();
            tracing::subscriber::with_default(logs, || queue.write_to(Broken(attempt)));
        });
        for written in 1..=3 {
            queue.push(b"a line\n");
            assert_eq!(attempts.recv(), Ok(()));
            assert!(queue.flush(Duration::from_secs(20)));
            assert_eq!(queue.dropped.get(), written);
        }
        assert!(attempts.try_recv().is_err(), "nothing else was written");
    }

    #[test]
    fn a_text_longer_than_the_bound_finds_room_in_an_empty_queue() {
        let queue = LogQueue { bytes_max: AtomicUsize::new(BYTES_MAX), ..LogQueue::default() };
        queue.push("x".repeat(BYTES_MAX + 1).as_bytes());
        assert_eq!(queue.dropped.get(), 0);
        queue.push(b"x");
        assert_eq!(queue.dropped.get(), 1, "and what comes behind it does not");
    }

    const BYTES_MAX: usize = 64;
}
