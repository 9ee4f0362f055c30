//! A hub that can be killed and started again where it was.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::failure::Failure;
use crate::hub::{Hub, HubCommand};
use crate::subject::{Restart, Subject};

/// A hub with the command that started it. It ends when this is dropped.
#[derive(Debug)]
pub struct RestartableHub {
    _running: Arc<Mutex<Running>>,
    subject: Subject,
}

#[derive(Debug)]
struct Running {
    command: HubCommand,
    hub: Option<Hub>,
}

impl RestartableHub {
    /// Starts it, and blocks until it listens.
    pub fn start(command: HubCommand) -> Result<Self, Failure> {
        let hub = command.start_blocking()?;
        let (command, subject) = (command.listen(hub.address()), hub.as_hub());
        let running = Arc::new(Mutex::new(Running { command, hub: Some(hub) }));
        let weak = Arc::downgrade(&running);
        let restart = Some(Restart::new(move || restart(&weak)));
        Ok(Self { _running: running, subject: Subject { restart, ..subject } })
    }

    /// It as what is measured, as it was started first.
    pub fn as_subject(&self) -> Subject {
        self.subject.clone()
    }
}

/// Kills the hub and starts it anew at the same address; its process then.
fn restart(running: &Weak<Mutex<Running>>) -> Result<u32, Failure> {
    let gone = || Failure::Unsupported("the hub has ended".into());
    let running = running.upgrade().ok_or_else(gone)?;
    let Running { command, hub } = &mut *running.lock();
    // Dropped, it is killed.
    drop(hub.take());
    let started = command.start_blocking()?;
    let pid = started.pid();
    *hub = Some(started);
    Ok(pid)
}
