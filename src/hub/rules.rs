//! Rules for channels by pattern, which can be replaced while the hub runs.

use std::io;

use thiserror::Error;
use tokio::task::yield_now;

use super::handle::Hub;
use crate::core::{ChannelPolicies, ChannelRule, Limits};

/// Why rules are not set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RulesError {
    /// More rules than [`ChannelLimits::rules_max`](crate::core::ChannelLimits::rules_max) allows. The
    /// number is limited because each new channel is matched with all rules.
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
        check(&rules, self.limits())?;
        let policies = ChannelPolicies::new(self.limits(), rules);
        // Also those of before: they have lost something with the end of this process.
        let mut transient = self.0.transient.lock().await;
        let channels = transient.clone().with(policies.transient_patterns());
        if channels != *transient {
            self.0.log.note_transient(channels.clone()).await.map_err(RulesError::NotNoted)?;
            *transient = channels;
        }
        if policies.transient_patterns().next().is_some() {
            self.0.store.retain_in_memory_alone();
        }
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
        let many = vec![rule("**", 1); 101];
        let refused = hub.set_channel_rules(many.clone()).await;
        assert!(matches!(refused, Err(RulesError::TooMany { rules: 101, rules_max: 100 })));
        assert!(Hub::builder().channel_rules(many).start().await.is_err());
    }
}
