//! Starting a hub.

use std::{collections::VecDeque, sync::Arc};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};

use super::{
    admission::ConnectionAdmission,
    answers::AnswerBudget,
    bodies::BodyBudget,
    channel_creation::ChannelCreator,
    connections::SUBJECT_LISTS_MAX,
    handle::{Hub, HubParts},
    quotas::Quotas,
    restore::{DiskOptions, restore},
    rules::{self, bound_batches},
    shared::open_shared,
    throttled_logs::ThrottledLogs,
};
use crate::{
    actors::{
        BackendOptions, BridgeArguments, ChannelContext, ChannelsArguments, ChannelsHandle, Clock,
        DiskStage, DurableStage, Inboxes, Lifecycle, Log, PollTimes, RootHandle, SamplerArguments,
        ShardContext, ShardsHandle, ShowStage,
    },
    backend::{EventStore, Registry},
    core::{ChannelPolicies, ChannelRule, Limits},
    disk::TransientChannels,
    model::Epoch,
    telemetry::{Metrics, Samples},
};

/// The options of a hub that is to be started.
#[derive(Debug, Clone, Default)]
pub struct HubBuilder {
    limits: Limits,
    shards: usize,
    disk: Option<DiskOptions>,
    rules: Vec<ChannelRule>,
    backend: Option<BackendOptions>,
}

/// Why the hub did not start.
#[derive(Debug, Error)]
#[error("the hub did not start: {0}")]
pub struct StartError(String);

impl Hub {
    /// A hub with the default limits and a shard per core.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }
}

impl HubBuilder {
    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the number of shards, each a thread; 0 is one per core.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Keeps the log on disk.
    #[must_use]
    pub fn disk(mut self, options: DiskOptions) -> Self {
        self.disk = Some(options);
        self
    }

    /// Sets rules for channels, which replace limits by pattern. The first rule that matches a
    /// channel applies.
    #[must_use]
    pub fn channel_rules(mut self, rules: Vec<ChannelRule>) -> Self {
        self.rules = rules;
        self
    }

    /// Shares the log with other hubs, by a storage backend; the hub then keeps no log on disk.
    #[must_use]
    pub fn backend(mut self, options: BackendOptions) -> Self {
        self.backend = Some(options);
        self
    }

    /// Starts the actors. Must be called within a tokio runtime. First it reads the retained events
    /// of a log on disk or of a shared log, and waits for a storage server that cannot be reached.
    pub async fn start(self) -> Result<Hub, StartError> {
        self.start_with(None).await
    }

    /// Starts a hub whose commits become durable by this stage, if one is given.
    pub(super) async fn start_with(self, durable: Option<DurableStage>) -> Result<Hub, StartError> {
        let shards = match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let mut limits = self.limits;
        if let Some(backend) = &self.backend {
            bound_batches(&mut limits, backend.batch_events_max);
        }
        limits.connections.check().map_err(|error| StartError(error.to_owned()))?;
        let limits = Arc::new(limits);
        rules::check(&self.rules, &limits).map_err(|error| StartError(error.to_string()))?;
        let clock = Clock::start();
        let metrics = Metrics::new();
        let policies = ChannelPolicies::new(&limits, self.rules);
        let registry = Arc::new(Registry::with_policies(&limits, policies.clone()));
        let epoch = Epoch::new(clock.now_ms(), fastrand::u16(..));
        let mut transient = TransientChannels::default();
        let (store, durable, keys, log_reads) = match (self.disk, self.backend) {
            (None, Some(options)) => {
                let metrics = Arc::clone(&metrics.backend);
                let loading = (Arc::clone(&registry), clock);
                let (store, stage) = open_shared(options, &limits, loading, metrics, epoch)
                    .await
                    .map_err(StartError)?;
                (store, DurableStage::Shared(stage), VecDeque::new(), None)
            }
            (None, None) => {
                let bytes_max = limits.history.total_bytes_max;
                let store = Arc::new(EventStore::new(epoch, bytes_max, Arc::clone(&registry)));
                (store, durable.unwrap_or(DurableStage::Memory), VecDeque::new(), None)
            }
            (Some(options), _) => {
                let (limits, registry) = (Arc::clone(&limits), Arc::clone(&registry));
                let metrics = Arc::clone(&metrics.disk);
                let now_ms = clock.now_ms();
                let (sync, read_limits) = (options.sync, options.reads);
                let restored = tokio::task::spawn_blocking({
                    let metrics = Arc::clone(&metrics);
                    move || {
                        restore(&options, &limits, &registry, &policies, &metrics, epoch, now_ms)
                            .map_err(|error| {
                                StartError(format!("{}: {error}", options.directory.display()))
                            })
                    }
                });
                let restored = restored.await.map_err(|error| StartError(error.to_string()))??;
                transient = restored.transient;
                let (store, log, keys) = (restored.store, restored.log, restored.keys);
                let stage = DiskStage::new(log, sync, metrics, Arc::clone(&store), read_limits)
                    .map_err(|error| StartError(error.to_string()))?;
                let reads = Arc::clone(stage.reads());
                (store, DurableStage::Disk(stage), keys, Some(reads))
            }
        };

        let shards = Arc::new(ShardsHandle::new(shards));
        let in_flight_max = limits.publish.in_flight_max.max(1) as usize;
        let inboxes = Arc::new(Inboxes::new(shards.count(), in_flight_max));
        let channels = Arc::<ChannelsHandle>::default();
        let poll_times = Arc::<PollTimes>::default();
        let show = ShowStage {
            store: Arc::clone(&store),
            inboxes: Arc::clone(&inboxes),
            channels: Arc::clone(&channels),
            metrics: Arc::clone(&metrics),
            poll_times: Arc::clone(&poll_times),
            clock,
        };
        let log = Log::new(show, durable, &limits.publish, clock, keys);
        log.start_stage().map_err(|error| StartError(error.to_string()))?;

        let lifecycle = Arc::new(Lifecycle::new());
        let context =
            ChannelContext { store: Arc::clone(&store), limits: Arc::clone(&limits), clock };
        let channels = ChannelsArguments {
            context: Arc::new(context),
            handle: channels,
            log: Arc::clone(&log),
            metrics: Arc::clone(&metrics),
        };
        let context = ShardContext {
            store: Arc::clone(&store),
            log_reads: log_reads.clone(),
            inboxes,
            shards: Arc::clone(&shards),
            limits: limits.connections.clone(),
            gather_max_ms: limits.publish.gather_max_ms.into(),
            metrics: Arc::clone(&metrics),
            poll_times: Arc::clone(&poll_times),
            clock,
        };
        let bridge = log.shared().map(|_| BridgeArguments {
            log: Arc::clone(&log),
            shards: Arc::clone(&shards),
            lifecycle: Arc::clone(&lifecycle),
            clock,
        });
        let samples = Arc::<Samples>::default();
        let sampler = SamplerArguments {
            metrics: Arc::clone(&metrics),
            samples: Arc::clone(&samples),
            clock,
        };
        let context = Arc::new(context);
        let (root, ended) =
            RootHandle::start(Arc::clone(&lifecycle), channels, context, bridge, sampler)
                .await
                .map_err(|error| StartError(error.to_string()))?;
        // The hub has failed once its root actor has ended, for whatever reason.
        let (ended_log, ended_lifecycle) = (Arc::clone(&log), Arc::clone(&lifecycle));
        tokio::spawn(async move {
            let _ = ended.await;
            ended_log.stop();
            ended_lifecycle.root_ended();
        });

        Ok(Hub(Arc::new(HubParts {
            clock,
            throttled_logs: ThrottledLogs::default(),
            store,
            log,
            log_reads,
            poll_times,
            lifecycle,
            shards,
            root,
            connections: ConnectionAdmission::new(&limits.connections),
            subject_lists: Semaphore::new(SUBJECT_LISTS_MAX),
            channel_creator: ChannelCreator::new(&limits, Arc::clone(&registry)),
            quotas: Quotas::new(&limits),
            bodies: BodyBudget::new(&limits.publish, &metrics),
            answers: AnswerBudget::new(&limits, Arc::clone(&metrics)),
            limits: ArcSwap::new(limits),
            metrics,
            samples,
            registry,
            transient: Mutex::new(transient),
        })))
    }
}
