//! Starts the tracer of a hub process and the task that exports its spans, as the settings say.

use std::{io, sync::Arc, time::Duration};

use super::{Settings, node_name::node_name};
use crate::{
    auth::Secret,
    telemetry::{
        CollectorHeaders, CollectorUrl, ExportOptions, Exporter, Sampling, TraceMetrics, Tracer,
    },
};

/// The traces of a process with a collector.
#[derive(Debug)]
pub(super) struct Traces {
    pub(super) tracer: Arc<Tracer>,
    exporter: Exporter,
}

impl Traces {
    /// Starts to trace, if the settings name a collector.
    ///
    /// # Errors
    /// The system's root certificates cannot be read.
    pub(super) fn start(
        settings: &Settings,
        metrics: &Arc<TraceMetrics>,
    ) -> io::Result<Option<Self>> {
        let traces = &settings.traces;
        let Ok(url) = traces.endpoint.parse::<CollectorUrl>() else { return Ok(None) };
        let queue_spans_max = traces.queue_spans_max as usize;
        let tracer = Tracer::new(sampling(settings), queue_spans_max, Arc::clone(metrics));
        let options = ExportOptions {
            url,
            headers: headers(&traces.headers),
            service: traces.service_name.clone(),
            host: node_name(settings),
            timeout: Duration::from_millis(traces.export_timeout_ms.into()),
        };
        let exporter = Exporter::start(&tracer, options)?;
        Ok(Some(Self { tracer, exporter }))
    }

    /// Exports the last spans, within the time of the settings, or until `cancelled` completes.
    pub(super) async fn finish(self, settings: &Settings, cancelled: impl Future<Output = ()>) {
        tokio::select! {
            () = self.exporter.finish(flush_time_max(settings)) => {}
            () = cancelled => {}
        }
    }
}

/// Which publishes are traced.
pub(super) fn sampling(settings: &Settings) -> Sampling {
    let traces = &settings.traces;
    Sampling {
        per_million: traces.sampled_per_million,
        follows_parent: traces.follows_parent,
        spans_per_s_max: traces.spans_per_s_max,
    }
}

/// The longest time that the end of the process waits for the last spans.
pub(super) fn flush_time_max(settings: &Settings) -> Duration {
    match settings.traces.endpoint.is_empty() {
        true => Duration::ZERO,
        false => Duration::from_millis(settings.traces.flush_ms.into()),
    }
}

fn headers(text: &Secret) -> CollectorHeaders {
    CollectorHeaders::parse(text).expect("the settings were checked")
}
