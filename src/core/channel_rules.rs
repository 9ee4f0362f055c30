//! Rules: settings for the channels of a pattern that replace limits of the hub.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{HistoryLimits, Limits, SlowPolicy};
use crate::model::{ChannelName, ChannelPattern};

/// A rule for the channels of a pattern. A field without a value keeps the limit of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelRule {
    /// The rule applies to channels that match this, unless an earlier rule matches too.
    pub pattern: ChannelPattern,
    /// Events kept, instead of [`HistoryLimits::events_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_max: Option<u32>,
    /// Seconds for which they are kept, instead of [`HistoryLimits::age_max_s`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_max_s: Option<u32>,
    /// Frame bytes kept, instead of [`HistoryLimits::bytes_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// The policy for connections that lag too far, instead of the hub's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowPolicy>,
    /// Events a second from all publishers, and as many at once; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_per_s: Option<u32>,
    /// Whether its events are written to the log on disk, if there is one. Events of a channel that
    /// is not durable (a *transient* one) have the same order and are gone after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
}

impl ChannelRule {
    /// A rule that changes no limit until its fields are set.
    pub fn new(pattern: ChannelPattern) -> Self {
        Self {
            pattern,
            events_max: None,
            age_max_s: None,
            bytes_max: None,
            slow: None,
            publish_per_s: None,
            durable: None,
        }
    }
}

/// The policy of one channel: the hub's limits as changed by the matching rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPolicy {
    /// The retention of its history.
    pub history: HistoryLimits,
    /// The policy for its connections that lag too far.
    pub slow: SlowPolicy,
    /// Events a second; 0 is no limit.
    pub events_per_s: u32,
    /// Events at once, above that rate.
    pub events_burst: u32,
    /// Whether a log on disk has its events.
    pub is_durable: bool,
}

/// The rules and limits of a hub, which give each channel its policy. The first rule whose pattern
/// matches applies.
#[derive(Debug, Clone)]
pub struct ChannelPolicies {
    rules: Vec<(ChannelRule, Arc<ChannelPolicy>)>,
    default: Arc<ChannelPolicy>,
}

impl ChannelPolicies {
    /// The policies that follow from `limits` and `rules`.
    pub fn new(limits: &Limits, rules: Vec<ChannelRule>) -> Self {
        let default = ChannelPolicy {
            history: limits.history.clone(),
            slow: limits.connections.slow_policy,
            events_per_s: limits.channels.events_per_s,
            events_burst: limits.channels.events_burst,
            is_durable: true,
        };
        let rules = rules.into_iter().map(|rule| {
            let policy = Arc::new(default.with(&rule));
            (rule, policy)
        });
        Self { rules: rules.collect(), default: Arc::new(default) }
    }

    /// The rule that applies to a channel, and its index.
    pub fn rule_of(&self, name: &ChannelName) -> Option<(usize, &ChannelRule)> {
        let mut rules = self.rules.iter().map(|(rule, _)| rule).enumerate();
        rules.find(|(_, rule)| rule.pattern.matches(name))
    }

    /// The patterns of transient channels. An earlier rule may make some of these durable.
    pub fn transient_patterns(&self) -> impl Iterator<Item = &ChannelPattern> {
        let transient = self.rules.iter().filter(|(_, policy)| !policy.is_durable);
        transient.map(|(rule, _)| &rule.pattern)
    }

    /// The policy of a channel.
    pub fn policy_of(&self, name: &ChannelName) -> &Arc<ChannelPolicy> {
        self.rule_of(name).map_or(&self.default, |(index, _)| &self.rules[index].1)
    }
}

impl ChannelPolicy {
    fn with(&self, rule: &ChannelRule) -> Self {
        let history = HistoryLimits {
            events_max: rule.events_max.unwrap_or(self.history.events_max),
            age_max_s: rule.age_max_s.unwrap_or(self.history.age_max_s),
            bytes_max: rule.bytes_max.unwrap_or(self.history.bytes_max),
            total_bytes_max: self.history.total_bytes_max,
        };
        Self {
            history,
            slow: rule.slow.unwrap_or(self.slow),
            events_per_s: rule.publish_per_s.unwrap_or(self.events_per_s),
            events_burst: rule.publish_per_s.map_or(self.events_burst, |per_s| per_s.max(1)),
            is_durable: rule.durable.unwrap_or(self.is_durable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str) -> ChannelRule {
        ChannelRule::new(ChannelPattern::parse(pattern).expect("a pattern"))
    }

    #[test]
    fn the_first_rule_that_matches_holds_and_what_it_leaves_out_is_the_hubs() {
        let mut limits = Limits::default();
        (limits.channels.events_per_s, limits.channels.events_burst) = (7, 70);
        let rules = vec![
            ChannelRule { events_max: Some(5), ..rule("prices/eur") },
            ChannelRule {
                slow: Some(SlowPolicy::Skip),
                publish_per_s: Some(3),
                ..rule("prices/*")
            },
            ChannelRule { publish_per_s: Some(0), durable: Some(false), ..rule("prices/**") },
        ];
        let policies = ChannelPolicies::new(&limits, rules);
        let policy = |name| policies.policy_of(&ChannelName::parse(name).expect("a name"));
        let default = policy("orders");
        assert_eq!((default.events_per_s, default.events_burst), (7, 70));
        let eur = policy("prices/eur");
        assert_eq!((eur.history.events_max, eur.history.age_max_s), (5, 3_600));
        assert_eq!((eur.slow, eur.events_per_s), (SlowPolicy::Disconnect, 7));
        let usd = policy("prices/usd");
        assert_eq!((usd.slow, usd.events_per_s, usd.events_burst), (SlowPolicy::Skip, 3, 3));
        assert_eq!(usd.history, limits.history);
        assert_eq!(policy("prices/usd/spot").events_per_s, 0, "no limit");
        assert!(usd.is_durable && !policy("prices").is_durable);
        let transient: Vec<&str> =
            policies.transient_patterns().map(|pattern| pattern.as_str()).collect();
        assert_eq!(transient, ["prices/**"]);
        let name = ChannelName::parse("prices/usd/spot").expect("a name");
        assert_eq!(policies.rule_of(&name).map(|(index, _)| index), Some(2));
    }
}
