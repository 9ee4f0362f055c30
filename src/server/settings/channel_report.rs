//! Shows the policy of one channel, and which rule or limit sets each value:
//! `visnyk config --channel NAME`.

use std::fmt::Write as _;

use super::Effective;
use crate::{
    core::{ChannelPolicies, ChannelRule, SlowPolicy},
    model::ChannelName,
};

impl Effective {
    /// The policy of a channel, written like a rule. After each value is the rule or limit that
    /// sets it.
    pub fn channel(&self, name: &ChannelName) -> String {
        let settings = self.settings();
        let policies = ChannelPolicies::new(&settings.limits, settings.channels.rules.clone());
        let found = policies.rule_of(name);
        let policy = policies.policy_of(name);
        let set_by = |key: &str| self.set_by(key).unwrap_or_default().to_owned();
        let rule_name = found.map(|(index, _)| format!("rule {}", index + 1)).unwrap_or_default();
        let from = |is_in_rule: fn(&ChannelRule) -> bool, key: &str| match found {
            Some((_, rule)) if is_in_rule(rule) => rule_name.clone(),
            _ => format!("{key} ({})", set_by(key)),
        };
        // Writing to a string cannot fail.
        let mut text = String::new();
        let _ = match found {
            Some((_, rule)) => writeln!(
                text,
                "# {name}: {rule_name} of channels.rules ({}), which is for {}",
                set_by("channels.rules"),
                rule.pattern
            ),
            None => writeln!(text, "# {name}: no rule of channels.rules is for it"),
        };
        let slow = match policy.slow {
            SlowPolicy::Disconnect => "disconnect",
            SlowPolicy::Skip => "skip",
        };
        let history = &policy.history;
        let has_directory = !settings.data_dir.is_empty();
        let is_shared = !settings.backend.url.is_empty();
        for (key, value, from) in [
            (
                "events_max",
                history.events_max.to_string(),
                from(|rule| rule.events_max.is_some(), "limits.history.events_max"),
            ),
            (
                "age_max_s",
                history.age_max_s.to_string(),
                from(|rule| rule.age_max_s.is_some(), "limits.history.age_max_s"),
            ),
            (
                "bytes_max",
                history.bytes_max.to_string(),
                from(|rule| rule.bytes_max.is_some(), "limits.history.bytes_max"),
            ),
            (
                "slow",
                format!("\"{slow}\""),
                from(|rule| rule.slow.is_some(), "limits.connections.slow_policy"),
            ),
            (
                "publish_per_s",
                policy.events_per_s.to_string(),
                from(|rule| rule.publish_per_s.is_some(), "limits.channels.events_per_s"),
            ),
            (
                "durable",
                match has_directory {
                    true => policy.is_durable.to_string(),
                    false => is_shared.to_string(),
                },
                match has_directory {
                    true => from(|rule| rule.durable.is_some(), "data_dir"),
                    false if is_shared => "backend.url: a shared log has all events".to_owned(),
                    false => "no data_dir: history is in memory".to_owned(),
                },
            ),
        ] {
            let _ = writeln!(text, "{key} = {value} # {from}");
        }
        text
    }
}
