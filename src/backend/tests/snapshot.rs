//! All that a store holds, as text, to be compared with that of another one.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    backend::EventStore,
    model::{ChannelName, Seq},
};

impl EventStore {
    /// All that a reader or retention could see of these channels, and of the others in the
    /// directory.
    pub(crate) fn snapshot(&self, names: &[ChannelName]) -> String {
        let mut text = format!(
            "head {:?}, {} bytes, unloaded {:?}, log {:?}\n",
            self.head(),
            self.bytes(),
            self.unloaded_through(),
            self.first_on_disk()
        );
        let directory = self.registry().directory();
        let mut channels = BTreeMap::new();
        directory.for_each(|entry| {
            let events = entry.events();
            let history = events.with_limits(|history, limits| format!("{history:#?} {limits:?}"));
            let closed = (events.closed_seq(), events.closed_ms(), events.is_closing());
            let losses = (events.losses(), events.losses_on_disk(), events.has_lost(Seq::ZERO));
            let seqs = (events.last_seq(), closed);
            let line = format!("{seqs:?} {losses:?} {} {history}", entry.is_removable());
            channels.insert(entry.name().clone(), line);
        });
        for (name, channel) in channels {
            let _ = writeln!(text, "{name}: {channel}");
        }
        for name in names {
            let lost = directory.evicted_channels().recall(name);
            let _ = writeln!(text, "{name} has lost {lost:?}");
        }
        let _ = writeln!(text, "{:?}", self.registry().tombstones());
        text + &self.journal().describe()
    }
}
