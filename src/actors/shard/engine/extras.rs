//! State that only some connections have, by slot. It is outside the slots, so that other
//! connections do not pay for it.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    actors::{
        ClientInfo, Lease,
        pending_read::PendingRead,
        read_queue::ReadPiece,
        search_wait::PendingSearch,
        subscriber::{ReplayPermit, StreamOpening},
    },
    model::Seq,
    telemetry::AccessRecord,
};

/// Leases, client addresses, records for the access log, replay permits, reads and searches of the
/// disk.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The lease of a connection, where clients are authenticated.
    leases: FxHashMap<u32, Box<Lease>>,
    /// The client's address, if it differs from the socket's peer.
    client_infos: FxHashMap<u32, Box<ClientInfo>>,
    /// The access log record of a stream, written when the stream is over.
    records: FxHashMap<u32, Box<AccessRecord>>,
    /// The permits of connections that are being sent history.
    replays: FxHashMap<u32, ReplayPermit>,
    /// Reads of the log on disk, with the cursors of their connections.
    disk_reads: FxHashMap<u32, (Seq, PendingRead<ReadPiece>)>,
    /// Searches of the log on disk for the starts of connections.
    disk_searches: FxHashMap<u32, PendingSearch>,
    /// What streams send with their preamble, while their start is searched for.
    openings: FxHashMap<u32, Box<StreamOpening>>,
    /// Streams that search for where to continue after a loss.
    resuming: FxHashSet<u32>,
}

impl Extras {
    pub(super) fn add_lease(&mut self, index: u32, lease: Box<Lease>) {
        self.leases.insert(index, lease);
    }

    pub(super) fn add_client_info(&mut self, index: u32, client_info: Box<ClientInfo>) {
        self.client_infos.insert(index, client_info);
    }

    pub(super) fn add_record(&mut self, index: u32, record: Box<AccessRecord>) {
        self.records.insert(index, record);
    }

    /// Takes the record of a stream that ends.
    #[inline]
    pub(super) fn take_record(&mut self, index: u32) -> Option<Box<AccessRecord>> {
        take(&mut self.records, index)
    }

    pub(super) fn add_replay(&mut self, index: u32, permit: ReplayPermit) {
        self.replays.insert(index, permit);
    }

    pub(super) fn lease(&self, index: u32) -> Option<&Lease> {
        self.leases.get(&index).map(|lease| &**lease)
    }

    pub(super) fn lease_mut(&mut self, index: u32) -> Option<&mut Lease> {
        self.leases.get_mut(&index).map(|lease| &mut **lease)
    }

    pub(super) fn client_info(&self, index: u32) -> Option<&ClientInfo> {
        self.client_infos.get(&index).map(|client_info| &**client_info)
    }

    /// Releases the replay permit of a connection, if it has one.
    #[inline]
    pub(super) fn end_replay(&mut self, index: u32) {
        take(&mut self.replays, index);
    }

    pub(super) fn add_disk_read(&mut self, index: u32, after: Seq, read: PendingRead<ReadPiece>) {
        self.disk_reads.insert(index, (after, read));
    }

    /// The read of the disk that a connection waits for.
    pub(super) fn disk_read(&mut self, index: u32) -> Option<&mut (Seq, PendingRead<ReadPiece>)> {
        if self.disk_reads.is_empty() {
            return None;
        }
        self.disk_reads.get_mut(&index)
    }

    /// Ends, or cancels, the read of the disk that a connection waits for.
    #[inline]
    pub(super) fn end_disk_read(&mut self, index: u32) {
        take(&mut self.disk_reads, index);
    }

    pub(super) fn add_disk_search(&mut self, index: u32, search: PendingSearch) {
        self.disk_searches.insert(index, search);
    }

    /// Whether a connection waits for a search of the disk.
    pub(super) fn has_disk_search(&self, index: u32) -> bool {
        !self.disk_searches.is_empty() && self.disk_searches.contains_key(&index)
    }

    /// The search of the disk that a connection waits for.
    pub(super) fn disk_search(&mut self, index: u32) -> Option<&mut PendingSearch> {
        self.disk_searches.get_mut(&index)
    }

    #[inline]
    pub(super) fn end_disk_search(&mut self, index: u32) {
        take(&mut self.disk_searches, index);
    }

    pub(super) fn add_opening(&mut self, index: u32, opening: Box<StreamOpening>) {
        self.openings.insert(index, opening);
    }

    #[inline]
    pub(super) fn take_opening(&mut self, index: u32) -> Option<Box<StreamOpening>> {
        take(&mut self.openings, index)
    }

    pub(super) fn begin_resuming(&mut self, index: u32) {
        self.resuming.insert(index);
    }

    /// Ends the search for where a stream continues; true if there was one.
    pub(super) fn end_resuming(&mut self, index: u32) -> bool {
        !self.resuming.is_empty() && self.resuming.remove(&index)
    }

    /// Removes the state of a connection that ends.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) -> (Option<Box<Lease>>, Option<Box<ClientInfo>>) {
        self.end_replay(index);
        self.end_disk_read(index);
        self.end_disk_search(index);
        self.take_opening(index);
        self.end_resuming(index);
        (take(&mut self.leases, index), take(&mut self.client_infos, index))
    }
}

/// Most connections have none of this state, and a look-up in an empty table costs as much as in a
/// full one.
#[inline]
fn take<T>(of: &mut FxHashMap<u32, T>, index: u32) -> Option<T> {
    if of.is_empty() { None } else { of.remove(&index) }
}
