//! What an admitted connection gets from the hub: a permit, an id, a lease, and a shape shared with
//! others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    actors::{Admission, Holder, Lease, Leases, ReplayPermit, Shape, SlotAddress},
    core::ConnectionLimits,
};

/// The connections of a hub.
#[derive(Debug)]
pub(super) struct ConnectionAdmission {
    admitted: Arc<AtomicU32>,
    connections_max: u32,
    /// The id of the latest connection.
    last_id: AtomicU64,
    leases: Arc<Leases>,
    replays: Arc<Semaphore>,
    replay_wait: Duration,
    shapes: Mutex<FxHashMap<Shape, Arc<Shape>>>,
}

impl ConnectionAdmission {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        Self {
            admitted: Arc::default(),
            connections_max: limits.connections_max,
            last_id: AtomicU64::new(0),
            leases: Arc::default(),
            replays: Arc::new(Semaphore::new(limits.replays_max.max(1) as usize)),
            replay_wait: Duration::from_millis(limits.replay_wait_ms.into()),
            shapes: Mutex::default(),
        }
    }

    /// How many connections are admitted and have not ended.
    pub(super) fn admitted(&self) -> u32 {
        self.admitted.load(Ordering::Acquire)
    }

    /// Whether the limit allows one more connection.
    pub(super) fn has_room(&self) -> bool {
        self.admitted() < self.connections_max
    }

    /// Admits one more connection, if the limit allows.
    pub(super) fn take(&self) -> Option<Admission> {
        Admission::take(&self.admitted, self.connections_max)
    }

    /// The id of a new connection.
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The lease of a new connection.
    pub(super) fn lease(&self, id: u64, holder: Holder) -> Lease {
        Lease::new(id, holder, &self.leases)
    }

    /// The shard and slot of a connection with a lease.
    pub(super) fn find_leased(&self, id: u64) -> Option<SlotAddress> {
        self.leases.find(id)
    }

    /// Acquires a replay permit; `None` if none becomes free in time.
    pub(super) async fn replay_permit(&self) -> Option<ReplayPermit> {
        let permit = Arc::clone(&self.replays).acquire_owned();
        timeout(self.replay_wait, permit).await.ok()?.ok().map(ReplayPermit::new)
    }

    /// Interns a shape: equal shapes get the same `Arc`, by whose address connections share bytes.
    /// With [`SHAPES_MAX`] shapes in use, a further one is not interned, and its connections share
    /// no bytes.
    pub(super) fn intern(&self, shape: Shape) -> Arc<Shape> {
        let mut shapes = self.shapes.lock();
        if let Some(known) = shapes.get(&shape) {
            return Arc::clone(known);
        }
        if shapes.len() >= SHAPES_MAX {
            shapes.retain(|_, known| Arc::strong_count(known) > 1);
        }
        let arc = Arc::new(shape.clone());
        if shapes.len() < SHAPES_MAX {
            shapes.insert(shape, Arc::clone(&arc));
        }
        arc
    }
}

/// Interned shapes at most.
const SHAPES_MAX: usize = 1_024;
