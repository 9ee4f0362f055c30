//! The scenarios of a comparison, with their sizes.

use visnyk_loadtest::Scenario;

/// How much is measured.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub(crate) struct Sizes {
    /// Subscribers.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Events of `paced`.
    #[arg(long, default_value_t = 100)]
    paced_events: u32,
    /// Events a second of `paced`.
    #[arg(long, default_value_t = 10.0)]
    paced_rate: f64,
    /// Events of `burst`, all published at once.
    #[arg(long, default_value_t = 200)]
    burst_events: u32,
    /// Events to each channel of `many-channels`, which has a channel for every 10 subscribers.
    #[arg(long, default_value_t = 20)]
    channel_events: u32,
    /// Events a second of `many-channels`, over all channels.
    #[arg(long, default_value_t = 2_000.0)]
    channels_rate: f64,
    /// Events of `saturate`, over the same channels and over a fifth of them, published in a closed
    /// loop.
    #[arg(long, default_value_t = 80_000)]
    saturating_events: u32,
    /// Publishes of `durable`, each answered when its event is on disk.
    #[arg(long, default_value_t = 40_000)]
    durable_requests: u32,
    /// Polls that wait at a time.
    #[arg(long, default_value_t = 5_000)]
    polls: usize,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Small sizes instead: seconds for each server.
    #[arg(long)]
    quick: bool,
}

impl Sizes {
    /// With `--quick` taken into account.
    pub(crate) fn settled(self) -> Self {
        if !self.quick {
            return self;
        }
        Self {
            connections: 200,
            paced_events: 10,
            paced_rate: 20.0,
            burst_events: 50,
            channel_events: 5,
            channels_rate: 200.0,
            saturating_events: 2_000,
            durable_requests: 500,
            polls: 200,
            ..self
        }
    }

    /// The scenarios in the order in which they run.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let Self { connections, payload, .. } = self;
        let channels = self.channels();
        let subscribers = connections / channels;
        let mut all = vec![
            format!("idle --connections {connections} --settle-s 2"),
            format!(
                "paced --subscribers {connections} --payload {payload} --events {} --rate {}",
                self.paced_events, self.paced_rate
            ),
            format!(
                "burst --subscribers {connections} --payload {payload} --events {}",
                self.burst_events
            ),
            format!(
                "many-channels --channels {channels} --subscribers {subscribers} \
                 --payload {payload} --events {} --rate {}",
                self.channel_events, self.channels_rate
            ),
        ];
        let mut numbers = vec![(channels / FEWER_CHANNELS).max(1), channels];
        numbers.dedup();
        for channels in numbers {
            // One connection that pipelines, and many that wait for each answer.
            for (publishers, pipelined) in [(1, 16), (64, 1)] {
                all.push(format!(
                    "saturate --channels {channels} --subscribers {subscribers} \
                     --publishers {publishers} --pipelined {pipelined} --payload {payload} \
                     --events {}",
                    self.saturating_events
                ));
            }
        }
        all.push(format!("poll --waiting {} --payload {payload}", self.polls));
        let requests = self.durable_requests;
        all.push(format!(
            "durable --requests {requests} --requests-alone {} --events {}",
            requests / 20,
            requests / 40
        ));
        all.iter().map(|words| Scenario::from_words(words.split(' '))).collect()
    }

    /// Every channel that the scenarios use.
    pub(crate) fn channel_names(&self) -> Vec<String> {
        let many = (0..self.channels()).map(|number| format!("load-{number}"));
        std::iter::once("load".to_owned()).chain(many).collect()
    }

    fn channels(&self) -> usize {
        (self.connections / SUBSCRIBERS_OF_A_CHANNEL).max(1)
    }
}

const SUBSCRIBERS_OF_A_CHANNEL: usize = 10;
/// How many times fewer channels `saturate` has the first time.
const FEWER_CHANNELS: usize = 5;
