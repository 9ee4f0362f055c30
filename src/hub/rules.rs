//! Rules for channels by pattern, which can be replaced while the hub runs.

use std::{io, sync::Arc};

use thiserror::Error;
use tokio::task::yield_now;

use super::handle::Hub;
use crate::core::{ChannelPolicies, ChannelRule, Limits};

/// Why rules are not set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RulesError {
    /// More rules than [`ChannelLimits::rules_max`](crate::core::ChannelLimits::rules_max) allows.
    /// The number is limited because each new channel is matched with all rules.
    #[error("{rules} rules for channels are more than {rules_max}")]
    TooMany {
        /// How many rules there are.
        rules: usize,
        /// The limit.
        rules_max: u32,
    },
    /// The log on disk cannot note which channels are transient.
    #[error("the log cannot note which channels are transient")]
    NotNoted(#[source] io::Error),
}

impl Hub {
    /// Replaces the rules for channels. New channels follow the new rules at once, existing ones by
    /// the time this returns. If a history has more than its new retention allows, it shrinks with
    /// its next event. Open connections keep their slow-reader policy.
    ///
    /// If this is cancelled, some channels keep their old policy.
    ///
    /// # Errors
    /// There are more rules than the limit, or the log on disk cannot note which channels are
    /// transient; the old rules stay.
    pub async fn set_channel_rules(&self, rules: Vec<ChannelRule>) -> Result<(), RulesError> {
        self.set(None, rules).await
    }

    /// Replaces the rules as [`set_channel_rules`](Self::set_channel_rules) does, and those limits
    /// that are read again for each request and channel: all of [`poll`](Limits::poll); of
    /// [`history`](Limits::history) those of one channel; of [`channels`](Limits::channels) the
    /// rate of events; of [`connections`](Limits::connections) the slow-reader policy, the age and
    /// the number of subscriptions; of [`publish`](Limits::publish) the body and the batch. The
    /// others stay as they are.
    ///
    /// # Errors
    /// As of `set_channel_rules`; then the old limits stay too.
    pub async fn set_limits(
        &self,
        limits: &Limits,
        rules: Vec<ChannelRule>,
    ) -> Result<(), RulesError> {
        self.set(Some(limits), rules).await
    }

    async fn set(&self, new: Option<&Limits>, rules: Vec<ChannelRule>) -> Result<(), RulesError> {
        // One call after the other, so that none reverts the changes of another.
        let mut transient = self.0.transient.lock().await;
        let running = self.limits();
        let mut limits = with_changeable(&running, new.unwrap_or(&running));
        if let Some(shared) = self.0.log.shared() {
            bound_batches(&mut limits, shared.batch_events_max());
        }
        check(&rules, &limits)?;
        let policies = ChannelPolicies::new(&limits, rules);
        // Also the patterns of before: their channels lose events when this process ends.
        let channels = transient.clone().with(policies.transient_patterns());
        if channels != *transient {
            self.0.log.note_transient(channels.clone()).await.map_err(RulesError::NotNoted)?;
            *transient = channels;
        }
        if policies.transient_patterns().next().is_some() {
            self.0.store.expect_transient();
        }
        self.0.limits.store(Arc::new(limits));
        let directory = self.0.registry.directory();
        directory.set_policies(policies);
        let mut last = directory.renew_policies(None);
        while let Some(name) = last {
            yield_now().await;
            last = directory.renew_policies(Some(name.as_str()));
        }
        Ok(())
    }
}

/// The limits of `running`, with those of `new` that may change.
fn with_changeable(running: &Limits, new: &Limits) -> Limits {
    let mut limits = running.clone();
    limits.poll = new.poll.clone();
    let (history, changed) = (&mut limits.history, &new.history);
    (history.events_max, history.age_max_s) = (changed.events_max, changed.age_max_s);
    history.bytes_max = changed.bytes_max;
    let (channels, changed) = (&mut limits.channels, &new.channels);
    (channels.events_per_s, channels.events_burst) = (changed.events_per_s, changed.events_burst);
    let (connections, changed) = (&mut limits.connections, &new.connections);
    (connections.slow_policy, connections.age_max_s) = (changed.slow_policy, changed.age_max_s);
    connections.subscriptions_max = changed.subscriptions_max;
    let (publish, changed) = (&mut limits.publish, &new.publish);
    publish.body_bytes_max = changed.body_bytes_max;
    publish.batch_events_max = changed.batch_events_max;
    limits
}

/// A batch is appended to a shared log at once, so it is bounded by that.
pub(super) fn bound_batches(limits: &mut Limits, events_max: u32) {
    limits.publish.batch_events_max = limits.publish.batch_events_max.min(events_max);
}

/// Checks the number of rules.
pub(super) fn check(rules: &[ChannelRule], limits: &Limits) -> Result<(), RulesError> {
    let rules_max = limits.channels.rules_max;
    match rules.len() > rules_max as usize {
        true => Err(RulesError::TooMany { rules: rules.len(), rules_max }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::Publication,
        model::{ChannelName, ChannelPattern},
    };

    fn rule(pattern: &str, events_max: u32) -> ChannelRule {
        let mut rule = ChannelRule::new(ChannelPattern::parse(pattern).expect("a pattern"));
        rule.events_max = Some(events_max);
        rule
    }

    #[tokio::test]
    async fn rules_can_be_set_while_the_hub_runs_for_channels_that_exist_too() {
        let hub = Hub::builder().shards(1).channel_rules(vec![rule("a/*", 3)]);
        let hub = hub.start().await.expect("a hub");
        let say = async |channel: &str| {
            let message = Publication::message(channel, "x").expect("a name");
            hub.publish(message).await.expect("published");
            let name = ChannelName::parse(channel).expect("a name");
            hub.channel(&name).expect("it exists").events_retained
        };
        // More than one look comes to.
        for n in 0..10 {
            for events in [1, 2, 3, 3] {
                assert_eq!(say(&format!("a/{n}")).await, events);
            }
        }
        hub.set_channel_rules(vec![rule("a/7", 4), rule("**", 1)]).await.expect("two rules");
        for n in 0..10 {
            assert_eq!(say(&format!("a/{n}")).await, if n == 7 { 4 } else { 1 });
        }
        assert_eq!((say("new").await, say("new").await), (1, 1));
        let mut limits = Limits::default();
        (limits.history.events_max, limits.connections.connections_max) = (2, 1);
        hub.set_limits(&limits, vec![rule("a/7", 4)]).await.expect("one rule");
        assert_eq!((say("a/7").await, say("a/1").await, say("a/1").await), (4, 2, 2));
        // What the hub is built with stays.
        assert_ne!(hub.limits().connections.connections_max, 1);
        let many = vec![rule("**", 1); 101];
        let refused = hub.set_channel_rules(many.clone()).await;
        assert!(matches!(refused, Err(RulesError::TooMany { rules: 101, rules_max: 100 })));
        assert!(hub.set_limits(&Limits::default(), many.clone()).await.is_err());
        assert_eq!(hub.limits().history.events_max, 2, "the old limits stay too");
        assert!(Hub::builder().channel_rules(many).start().await.is_err());
    }
}
