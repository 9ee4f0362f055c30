//! The second stage of a commit, *make durable*: what has to be done before its events may be
//! shown.

use std::{io, sync::Arc};

#[cfg(test)]
use super::delayed_stage::DelayedStage;
use super::{
    committer::{Answer, Prepared},
    disk_stage::DiskStage,
    shared_stage::SharedStage,
    show_stage::ShowStage,
    submission::AppendError,
};
use crate::disk::TransientChannels;

/// What a hub's log does with prepared commits.
#[derive(Debug)]
pub(crate) enum DurableStage {
    /// Nothing: events in memory are as durable as the process, and are shown on the thread that
    /// has prepared them, under the log's lock.
    Memory,
    /// Writes them to a log on disk, and shows them once they are fsynced.
    Disk(DiskStage),
    /// Hands submissions to a log that several hubs share, which gives them their order, and shows
    /// what that log has.
    Shared(Arc<SharedStage>),
    /// A stand-in for a disk, which shows commits later and on a thread of its own.
    #[cfg(test)]
    Delayed(DelayedStage),
}

impl DurableStage {
    /// Makes a commit durable and has it shown, in the order of these calls. The log's lock is
    /// held, on the thread of a publisher or of the log's actor: a storage that waits queues the
    /// commit here, and waits elsewhere.
    pub(super) fn make_durable(&self, prepared: Prepared, show: &ShowStage) {
        match self {
            Self::Memory => show.show(prepared),
            Self::Disk(stage) => {
                if let Err(mut prepared) = stage.queue(prepared)
                    && prepared.events.is_empty()
                {
                    // Other answers, to a known key for instance, may rest on events that were not
                    // written before the log failed. Dropped, they are an unknown outcome.
                    let is_safe =
                        |answer: &Answer| matches!(answer.outcome, Err(AppendError::LogClosed));
                    prepared.answers.retain(is_safe);
                    show.show(prepared);
                }
            }
            // Submissions are handed to it before they are prepared.
            Self::Shared(_) => show.show(prepared),
            #[cfg(test)]
            Self::Delayed(stage) => stage.queue(prepared),
        }
    }

    /// Where events are kept, in a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk(_) => "disk",
            Self::Shared(_) => "redis",
            #[cfg(test)]
            Self::Delayed(_) => "delayed",
        }
    }

    /// Whether what it has made durable is there for the next process. It then takes time.
    pub(super) fn outlives_process(&self) -> bool {
        !matches!(self, Self::Memory)
    }

    /// Whether new commits would find no room.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Disk(stage) => stage.is_full(),
            _ => false,
        }
    }

    /// Notes which channels are transient before their events are shown. Blocks until that is
    /// durable.
    pub(super) fn note_transient(&self, channels: &TransientChannels) -> io::Result<()> {
        match self {
            Self::Disk(stage) => stage.note_transient(channels),
            _ => Ok(()),
        }
    }

    /// The log has ended: commits that are not shown by now never are.
    pub(super) fn stop(&self) {
        match self {
            Self::Memory => {}
            Self::Disk(stage) => stage.stop(),
            Self::Shared(stage) => stage.stop(),
            #[cfg(test)]
            Self::Delayed(stage) => stage.stop(),
        }
    }

    /// Has the commits that it has taken shown, and closes what they are stored in. Blocks until
    /// that is done.
    pub(super) fn finish(&self) {
        if let Self::Disk(stage) = self {
            stage.finish();
        }
    }
}
