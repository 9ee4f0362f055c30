//! The whole screen of a terminal, for a command that draws on it again and again.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::{CliError, terminal::Terminal};

/// Restores the terminal when it is dropped.
pub(crate) struct Screen {
    pub(crate) terminal: Terminal,
    /// The modes of stdin before; `None` if stdin is not a terminal.
    before: Option<Termios>,
    keys: mpsc::Receiver<u8>,
    has_keys: bool,
    terminated: Signal,
    hung_up: Signal,
}

impl Screen {
    /// Takes the terminal on stdout, if there is one. Within a runtime.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        let Some(terminal) = Terminal::of_stdout() else { return Ok(None) };
        let (terminated, hung_up) =
            (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
        let stdin = io::stdin();
        let before = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
        if let Some(before) = &before {
            // Keys come at once and are not shown. Ctrl-C stays a signal.
            let mut modes = before.clone();
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&stdin, OptionalActions::Now, &modes)?;
        }
        let keys = if before.is_some() { read_keys() } else { mpsc::channel(1).1 };
        let screen =
            Self { terminal, has_keys: before.is_some(), before, keys, terminated, hung_up };
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Draws lines from the top of the screen, over earlier ones.
    pub(crate) fn draw(&mut self, lines: &[String]) -> Result<(), CliError> {
        let text = format!("{HOME}{}{CLEAR_REST}", lines.join(NEXT_LINE));
        write(&text).map_err(CliError::failed)
    }

    /// Waits until a key or a signal ends the command.
    pub(crate) async fn quit(&mut self) {
        loop {
            tokio::select! {
                key = self.keys.recv(), if self.has_keys => match key {
                    Some(b'q' | b'Q') => return,
                    Some(_) => {}
                    // stdin is at its end: only signals are left.
                    None => self.has_keys = false,
                },
                _ = self.terminated.recv() => return,
                _ = self.hung_up.recv() => return,
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Errors are ignored: the terminal may be gone.
        let _ = write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Reads keys on a thread of its own, which does not keep the process from ending.
fn read_keys() -> mpsc::Receiver<u8> {
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        let mut key = [0];
        while io::stdin().read_exact(&mut key).is_ok() {
            if sender.blocking_send(key[0]).is_err() {
                break;
            }
        }
    });
    keys
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Keys that may wait to be handled.
const KEYS_MAX: usize = 16;
/// The other screen of the terminal, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
/// Clears the rest of a line, and begins the next one.
const NEXT_LINE: &str = "\u{1b}[K\r\n";
const CLEAR_REST: &str = "\u{1b}[K\u{1b}[J";
