//! Reports how many subscribers this hub has, and asks what the other hubs have reported.

use std::{collections::HashMap, convert::Infallible, future::pending, sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    backoff::Backoff,
    reported::{Patterns, Reported},
    times::BACK_WITHIN,
};
use crate::{
    actors::{
        shared_counts::{Elsewhere, Question},
        shared_stage::SharedStage,
    },
    backend::Registry,
    core::PatternIndex,
    model::{ChannelName, ChannelPattern},
    redis::{HubReport, PatternsPart, RedisCounts, RedisError, ReportPart, SubscriberCount},
};

/// Reports and asks.
pub(super) struct Counting {
    stage: Arc<SharedStage>,
    registry: Arc<Registry>,
    reported: Reported,
    /// When all running hubs have reported to the server that is connected now.
    settled: Instant,
    /// By hub: the patterns of its subscribers, and when they were reported.
    patterns: HashMap<String, (u64, PatternIndex<SubscriberCount>)>,
}

impl Counting {
    pub(super) fn new(stage: Arc<SharedStage>, registry: Arc<Registry>) -> Self {
        let (reported, settled) = (Reported::default(), Instant::now());
        Self { stage, registry, reported, settled, patterns: HashMap::new() }
    }

    /// Counts until this hub halts: its clients go to other hubs.
    pub(super) async fn count_forever(mut self) {
        let stage = Arc::clone(&self.stage);
        tokio::select! {
            biased;
            () = stage.following.halted() => {}
            never = self.count() => match never {},
        }
        stage.counts.set_connected(false);
        stage.metrics.observe_hubs(0);
        // Over a connection of its own: the other one may have a command under way. If this fails,
        // the report expires.
        if let Ok(mut link) = RedisCounts::connect(&stage.options.redis).await {
            let _ = link.leave(stage.counts.hub()).await;
        }
        pending().await
    }

    /// Counts, over one connection after the other.
    async fn count(&mut self) -> Infallible {
        let mut backoff = Backoff::default();
        let mut has_warned = false;
        loop {
            self.stage.counts.set_connected(false);
            let error = match RedisCounts::connect(&self.stage.options.redis).await {
                Ok(mut link) => self.count_on(&mut link, &mut backoff).await,
                Err(error) => error,
            };
            // The tail logs a server that is unreachable or refuses for now. Refusals that an
            // operator has to end are logged here too, and again after a report that was accepted.
            has_warned &= backoff.has_failed();
            if (error.is_forbidden() || error.is_permanent()) && !has_warned {
                has_warned = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "subscribers are not counted over all hubs; docs/scaling.md lists the commands that the \
                     server's user needs"
                );
            }
            // The server may have another report of this hub, since the answer to the last part may
            // be lost, or none.
            self.reported = Reported::default();
            self.stage.metrics.observe_hubs(0);
            self.stage.counts.set_connected(false);
            sleep(pause(&error, &mut backoff)).await;
        }
    }

    /// Reports and asks until the connection fails.
    async fn count_on(&mut self, link: &mut RedisCounts, backoff: &mut Backoff) -> RedisError {
        let stage = Arc::clone(&self.stage);
        self.settled = Instant::now() + stage.options.counts_interval + BACK_WITHIN;
        let mut ticks = interval(stage.options.counts_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                _ = ticks.tick(), if !stage.counts.is_gone() => {
                    let reported = self.report(link).await;
                    stage.metrics.count_report(if reported.is_ok() { "taken" } else { "failed" });
                    if reported.is_ok() {
                        backoff.reset();
                        stage.counts.set_connected(true);
                    }
                    reported
                }
                questions = stage.counts.questions() => self.answer(link, questions).await,
                () = stage.counts.left() => {
                    let left = link.leave(stage.counts.hub()).await;
                    stage.counts.has_left();
                    left
                }
                error = link.ended() => Err(error),
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    /// Reports what has changed.
    async fn report(&mut self, link: &mut RedisCounts) -> Result<(), RedisError> {
        let (channels, is_whole) = self.named().await;
        let patterns = self.patterns();
        self.stage.metrics.observe_reported(channels.len());
        if !self.report_changes(link, &channels, is_whole, &patterns).await? {
            // It has expired, or the server has lost all reports: report everything again.
            self.settled = Instant::now() + self.stage.options.counts_interval + BACK_WITHIN;
            self.reported = Reported::default();
            self.report_changes(link, &channels, is_whole, &patterns).await?;
        }
        self.reported.set(channels, patterns);
        Ok(())
    }

    /// Reports the differences to the last report; false if the server no longer has the last
    /// report.
    async fn report_changes(
        &mut self,
        link: &mut RedisCounts,
        channels: &[(ChannelName, SubscriberCount)],
        is_whole: bool,
        patterns: &Patterns,
    ) -> Result<bool, RedisError> {
        let changes = self.reported.changes(channels, patterns);
        let options = &self.stage.options;
        // At least one part: it keeps the report from expiring.
        let parts = changes.channels.len().div_ceil(PART_CHANNELS_MAX).max(1);
        let mut pieces = changes.channels.chunks(PART_CHANNELS_MAX);
        for number in 1..=parts {
            let part = ReportPart {
                number: self.reported.parts + 1,
                expiry_ms: options.counts_expiry.as_millis() as u64,
                is_last: number == parts,
                is_whole,
                patterns: match patterns {
                    _ if number > 1 || !changes.are_patterns_new => PatternsPart::Unchanged,
                    Some(all) => PatternsPart::All(all),
                    None => PatternsPart::TooMany,
                },
                channels: pieces.next().unwrap_or_default(),
            };
            match link.report(self.stage.counts.hub(), &part).await? {
                Some(hubs) => self.stage.metrics.observe_hubs(hubs),
                None => return Ok(false),
            }
            self.reported.parts += 1;
        }
        Ok(true)
    }

    /// The channels that subscriptions name, in order, and whether the list is complete.
    async fn named(&self) -> (Vec<(ChannelName, SubscriberCount)>, bool) {
        let max = self.stage.options.counts_channels_max as usize;
        let mut named: Vec<(ChannelName, SubscriberCount)> = Vec::new();
        let mut after: Option<ChannelName> = None;
        loop {
            let from = after.as_ref().map(ChannelName::as_str);
            // One more than the limit, to know whether the list is complete.
            let limit = max + 1 - named.len();
            let directory = self.registry.directory();
            let (found, next) =
                directory.page_where(from, limit, |entry| !entry.has_no_subscribers());
            for entry in found {
                let (streams, pollers) = entry.named_by();
                named.push((entry.name().clone(), SubscriberCount { streams, pollers }));
            }
            if named.len() > max {
                named.truncate(max);
                return (named, false);
            }
            match next {
                Some(next) => after = Some(next),
                None => return (named, true),
            }
            yield_now().await;
        }
    }

    fn patterns(&self) -> Patterns {
        let all = self.registry.pattern_counts().all(PATTERNS_BYTES_MAX)?;
        let count = |(pattern, streams, pollers): (ChannelPattern, u32, u32)| {
            (pattern, SubscriberCount { streams, pollers })
        };
        Some(all.into_iter().map(count).collect())
    }

    /// Answers questions. A question that is dropped gets no answer.
    async fn answer(
        &mut self,
        link: &mut RedisCounts,
        questions: Vec<Question>,
    ) -> Result<(), RedisError> {
        let channels: Vec<_> = questions.iter().map(|question| question.channel.clone()).collect();
        let reports = link.ask(self.stage.counts.hub(), &channels).await?;
        self.patterns.retain(|hub, _| reports.iter().any(|report| report.hub == *hub));
        for report in &reports {
            let known = self.patterns.get(&report.hub).map(|(number, _)| *number);
            if known != Some(report.patterns) {
                let (number, all) = match report.patterns {
                    0 => (0, Vec::new()),
                    _ => link.patterns(&report.hub).await?,
                };
                let mut index = PatternIndex::default();
                for (pattern, count) in all {
                    *index.entry(&pattern, SubscriberCount::default).1 = count;
                }
                self.patterns.insert(report.hub.clone(), (number, index));
            }
        }
        for (at, question) in questions.into_iter().enumerate() {
            let sum = self.sum(&reports, at, &question.channel);
            // Its request may be gone.
            let _ = question.answer.send(sum);
        }
        Ok(())
    }

    /// The sum of what hubs have reported of a channel.
    fn sum(&mut self, reports: &[HubReport], at: usize, channel: &ChannelName) -> Elsewhere {
        let is_settled = Instant::now() >= self.settled;
        let mut sum = Elsewhere { hubs: reports.len() as u32, is_settled, ..Elsewhere::default() };
        for report in reports {
            sum.age_ms = sum.age_ms.max(report.age_ms);
            let named = report.named[at];
            let Some((number, patterns)) = self.patterns.get_mut(&report.hub) else { continue };
            if *number == 0 || named.is_none() && !report.is_whole {
                sum.hubs_unknown += 1;
            }
            sum.is_named |= named.is_some();
            let mut add = |count: &SubscriberCount| {
                sum.streams = sum.streams.saturating_add(count.streams);
                sum.pollers = sum.pollers.saturating_add(count.pollers);
            };
            named.iter().for_each(&mut add);
            patterns.each_match(channel, |_, count| add(count));
        }
        sum
    }
}

/// How long to wait before the next attempt. If the server's user lacks a permission, attempts are
/// rare: each one is a connection, and the operator has to change the user first.
fn pause(error: &RedisError, backoff: &mut Backoff) -> Duration {
    let pause = backoff.next();
    if error.is_forbidden() { FORBIDDEN_PAUSE } else { pause }
}

const FORBIDDEN_PAUSE: Duration = Duration::from_secs(30);
/// Channels of one command: the script holds up the server for their time.
const PART_CHANNELS_MAX: usize = 500;
/// Bytes of the texts of all patterns; a hub with more does not report patterns.
const PATTERNS_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::bridge::times::PAUSE_MAX;

    #[test]
    fn what_the_user_may_not_do_is_asked_for_seldom() {
        let mut backoff = Backoff::default();
        let refused = |answer: &str| RedisError::Refused(answer.to_owned());
        for answer in [
            "NOPERM User visnyk has no permissions to run the 'evalsha' command",
            "ERR The user executing the script can't run this command or subcommand script: 1f",
        ] {
            assert_eq!(pause(&refused(answer), &mut backoff), FORBIDDEN_PAUSE, "{answer}");
        }
        // These end by themselves.
        for error in [
            refused("READONLY it is a replica"),
            refused("LOADING Redis is loading the dataset in memory"),
            RedisError::Unexpected("this hub's report is missing"),
        ] {
            assert!(pause(&error, &mut backoff) <= PAUSE_MAX, "{error}");
        }
    }
}
