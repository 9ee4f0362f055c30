//! How many subscribers each hub has, on the server that hubs share: over a connection of its own,
//! and in keys that expire with their hub.

use bytes::Bytes;

use super::{
    connection::{COMMAND_TIME_MAX, Command, Connection, RedisOptions},
    error::RedisError,
    resp::Reply,
    server::{Prepared, prepare, within_time},
};
use crate::model::{ChannelName, ChannelPattern};

/// A connection to the reports of hubs. Each of its methods is one command. After a command was
/// cancelled, the connection cannot be used.
pub struct RedisCounts {
    connection: Connection,
    /// The hash by which the server knows the script.
    script: Bytes,
    /// The key of the hubs that have a report, which is also the prefix of their keys.
    hubs: Bytes,
}

/// Streams and waiting polls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscriberCount {
    /// Streams.
    pub streams: u32,
    /// Waiting polls.
    pub pollers: u32,
}

/// A part of a hub's report.
#[derive(Debug, Default)]
pub struct ReportPart<'a> {
    /// 1 begins a report, which replaces any other one of its hub; each further part has the next
    /// number.
    pub number: u64,
    /// How long the report stays if no further part comes, in milliseconds.
    pub expiry_ms: u64,
    /// Whether it is the last part of the report.
    pub is_last: bool,
    /// Whether a channel that is not in the report has no subscribers that name it.
    pub is_whole: bool,
    /// The patterns of subscribers.
    pub patterns: PatternsPart<'a>,
    /// The channels that have changed.
    pub channels: &'a [(ChannelName, SubscriberCount)],
}

/// What a part says of the patterns of subscribers.
#[derive(Debug, Default)]
pub enum PatternsPart<'a> {
    /// Nothing: they have not changed.
    #[default]
    Unchanged,
    /// All of them.
    All(&'a [(ChannelPattern, SubscriberCount)]),
    /// There are too many to be reported.
    TooMany,
}

/// The report of another hub, with the channels that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct HubReport {
    /// The hub.
    pub hub: String,
    /// How old it is, in milliseconds.
    pub age_ms: u64,
    /// Whether a channel that is not in it has no subscribers that name it.
    pub is_whole: bool,
    /// Identifies the [`patterns`](RedisCounts::patterns) of this report: the server's time when
    /// they were reported. Reports that repeat it have the same patterns. 0 if they are not known.
    pub patterns: u64,
    /// Subscribers that name each channel that was asked for; `None` if the channel is not in the
    /// report.
    pub named: Vec<Option<SubscriberCount>>,
}

impl RedisCounts {
    /// Connects to a server, checks that it is fit, and gives it the script. Times out after four
    /// seconds.
    pub async fn connect(options: &RedisOptions) -> Result<Self, RedisError> {
        let Prepared { connection, script, .. } = within_time(prepare(options, SCRIPT)).await?;
        let hubs = options.key("hubs");
        Ok(Self { connection, script, hubs })
    }

    /// Reports the counts of a hub. Returns how many hubs have a report; none if the server lacks
    /// the part before.
    pub async fn report(
        &mut self,
        hub: &str,
        part: &ReportPart<'_>,
    ) -> Result<Option<u64>, RedisError> {
        let flag = |is_set: bool| if is_set { "1" } else { "0" };
        let mut command = self.command("report", hub);
        command.number(part.number).number(part.expiry_ms);
        command.part(flag(part.is_last)).part(flag(part.is_whole));
        let line = |(pattern, SubscriberCount { streams, pollers }): &(ChannelPattern, _)| {
            format!("{streams} {pollers} {pattern}\n")
        };
        match part.patterns {
            PatternsPart::Unchanged => command.part("unchanged").part(""),
            PatternsPart::All(all) => {
                command.part("all").part(all.iter().map(line).collect::<String>())
            }
            PatternsPart::TooMany => command.part("too many").part(""),
        };
        for (channel, count) in part.channels {
            let SubscriberCount { streams, pollers } = count;
            command.part(channel.as_str().to_owned());
            command.part(match *count == SubscriberCount::default() {
                true => String::new(),
                false => format!("{streams} {pollers}"),
            });
        }
        match self.call(&command).await?.number() {
            Some(0) => Ok(None),
            Some(hubs) => Ok(Some(hubs)),
            None => Err(UNEXPECTED),
        }
    }

    /// What the other hubs have reported of some channels. Fails if the report of this hub is
    /// missing, since reports of other hubs may be missing, too.
    pub async fn ask(
        &mut self,
        hub: &str,
        channels: &[ChannelName],
    ) -> Result<Vec<HubReport>, RedisError> {
        let mut command = self.command("ask", hub);
        for channel in channels {
            command.part(channel.as_str().to_owned());
        }
        let reply = self.call(&command).await?;
        let rows = reply.array().ok_or(RedisError::Unexpected("this hub's report is missing"))?;
        rows.iter().map(|row| read_report(row, channels.len()).ok_or(UNEXPECTED)).collect()
    }

    /// The patterns of another hub's subscribers, and the time that [`ask`](Self::ask) gives for
    /// them.
    pub async fn patterns(
        &mut self,
        hub: &str,
    ) -> Result<(u64, Vec<(ChannelPattern, SubscriberCount)>), RedisError> {
        let command = self.command("patterns", hub);
        let reply = self.call(&command).await?;
        let Some([time_ms, text]) = reply.array() else { return Err(UNEXPECTED) };
        let lines = text.text().ok_or(UNEXPECTED)?.lines();
        // The pattern is last, since it may have spaces.
        let read = |line: &str| {
            let at = line.match_indices(' ').nth(1)?.0;
            let (count, pattern) = (read_count(&line[..at])?, line.get(at + 1..)?);
            Some((ChannelPattern::parse(pattern).ok()?, count))
        };
        let patterns = lines.map(|line| read(line).ok_or(UNEXPECTED)).collect::<Result<_, _>>()?;
        // Its report may have expired meanwhile.
        Ok((time_ms.number().unwrap_or_default(), patterns))
    }

    /// Removes the report of a hub that ends.
    pub async fn leave(&mut self, hub: &str) -> Result<(), RedisError> {
        let command = self.command("leave", hub);
        self.call(&command).await.map(drop)
    }

    /// Waits until the server ends the connection. Cancelling the wait has no effect.
    pub async fn ended(&mut self) -> RedisError {
        self.connection.ended().await
    }

    fn command(&self, operation: &'static str, hub: &str) -> Command {
        let mut command = Command::default();
        command.part("EVALSHA").part(self.script.clone()).number(1).part(self.hubs.clone());
        command.part(operation).part(hub.to_owned());
        command
    }

    async fn call(&mut self, command: &Command) -> Result<Reply, RedisError> {
        self.connection.call(&command.parts(), COMMAND_TIME_MAX).await
    }
}

impl std::fmt::Debug for RedisCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisCounts").field("hubs", &self.hubs).finish_non_exhaustive()
    }
}

fn read_report(row: &Reply, channels: usize) -> Option<HubReport> {
    let [hub, age_ms, is_whole, patterns, named @ ..] = row.array()? else { return None };
    if named.len() != channels {
        return None;
    }
    let named = named.iter().map(|count| match count.text()? {
        "" => Some(None),
        text => read_count(text).map(Some),
    });
    Some(HubReport {
        hub: hub.text()?.to_owned(),
        age_ms: age_ms.number()?,
        is_whole: is_whole.text()? == "1",
        patterns: patterns.number()?,
        named: named.collect::<Option<_>>()?,
    })
}

fn read_count(text: &str) -> Option<SubscriberCount> {
    let (streams, pollers) = text.split_once(' ')?;
    Some(SubscriberCount { streams: streams.parse().ok()?, pollers: pollers.parse().ok()? })
}

const SCRIPT: &str = include_str!("counts.lua");
const UNEXPECTED: RedisError = RedisError::Unexpected("the counts of hubs");
