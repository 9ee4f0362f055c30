//! jemalloc's statistics of the heap, for builds with jemalloc.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tikv_jemalloc_ctl::{epoch, stats};

/// The heap as of the last scrape.
#[derive(Debug, Default)]
pub(super) struct Heap {
    allocated: Gauge,
    resident: Gauge,
}

impl Heap {
    pub(super) fn register(&self, registry: &mut Registry) {
        let allocated = self.allocated.clone();
        registry.register("heap_allocated_bytes", "Bytes the program has allocated", allocated);
        let resident = self.resident.clone();
        registry.register("heap_resident_bytes", "Bytes the allocator holds in memory", resident);
    }

    /// Asks jemalloc; a figure that it does not give keeps its last value.
    pub(super) fn refresh(&self) {
        // Its statistics are as of the last epoch.
        if epoch::advance().is_err() {
            return;
        }
        for (gauge, bytes) in
            [(&self.allocated, stats::allocated::read()), (&self.resident, stats::resident::read())]
        {
            if let Ok(bytes) = bytes {
                gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
    }
}
