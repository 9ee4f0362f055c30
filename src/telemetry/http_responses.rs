//! Answers counted by kind of request and status: a counter for each pair, all present from the
//! start.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::Counter, family::Family},
};

use crate::model::labels;

labels! {
    /// The kinds of requests, few enough for a label.
    pub enum RouteClass {
        /// A stream.
        Stream = "stream",
        /// A poll.
        Poll = "poll",
        /// To publish.
        Publish = "publish",
        /// About channels, or to close one.
        Channels = "channels",
        /// About connections, or to change one.
        Connections = "connections",
        /// Whether the hub is alive and ready, and what it does.
        Health = "health",
        /// The metrics.
        Metrics = "metrics",
        /// A file of the console, the browser client or the description of the API.
        Assets = "assets",
        /// To plant a fault.
        Faults = "faults",
        /// What methods there are, and whether a page may use them.
        Options = "options",
        /// A path without a route.
        Other = "other",
    }
}

/// The labels of one counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    route: &'static str,
    status: &'static str,
}

/// The counters.
#[derive(Debug, Clone)]
pub struct HttpResponses {
    family: Family<ResponseLabels, Counter>,
    /// The counters of `family` by class and status, so that counting needs no look-up.
    counters: [[Counter; STATUSES.len()]; RouteClass::ALL.len()],
}

impl Default for HttpResponses {
    fn default() -> Self {
        let family = Family::<ResponseLabels, Counter>::default();
        let counters = RouteClass::ALL.map(|route| {
            STATUSES.map(|status| {
                let labels = ResponseLabels { route: route.as_str(), status };
                family.get_or_create_owned(&labels)
            })
        });
        Self { family, counters }
    }
}

impl HttpResponses {
    /// Counts an answer with a status from 200 to 599.
    pub fn count(&self, route: RouteClass, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.counters[route as usize][class].inc();
    }
}

impl EncodeMetric for HttpResponses {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.family.metric_type()
    }
}

const STATUSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_counter() {
        let responses = HttpResponses::default();
        for (times, route) in (1..).zip(RouteClass::ALL) {
            for status in [200, 304, 404, 503] {
                for _ in 0..times {
                    responses.count(route, status);
                }
            }
        }
        for (times, route) in (1..).zip(RouteClass::ALL) {
            for status in STATUSES {
                let labels = ResponseLabels { route: route.as_str(), status };
                let counter = responses.family.get(&labels).expect("it is there");
                assert_eq!(counter.get(), times, "{labels:?}");
            }
        }
    }
}
