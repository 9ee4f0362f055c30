//! The log of a namespace, over one connection: the commands of a hub.

use std::time::Duration;

use bytes::Bytes;

use super::{
    connection::{COMMAND_TIME_MAX, Command, Connection, RedisOptions},
    entry::{Entry, Nonce},
    error::RedisError,
    master::LOG,
    resp::Reply,
    script::{self, AppendLimits, Appended, Fence, NewEntries, SCRIPT},
    server::{Prepared, Run, ServerInfo, check_role, prepare, within_time},
};
use crate::model::{ChannelName, Epoch, Seq};

/// A connection to the log. Each of its methods is one command; after cancelling one the connection
/// must be dropped.
pub struct RedisLog {
    connection: Connection,
    /// The hash by which the server knows the script.
    script: Bytes,
    keys: Keys,
    server: ServerInfo,
}

/// The names of its keys.
#[derive(Debug)]
struct Keys {
    log: Bytes,
    closed: Bytes,
    channels: Bytes,
    /// All keys, in the order in which the script takes them.
    all: [Bytes; 8],
}

/// The state of a log, as the `state` of the script returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// Its epoch; none if there is no log.
    pub epoch: Option<Epoch>,
    /// The newest seq.
    pub last: Seq,
    /// The oldest entry that is kept.
    pub first: Option<Seq>,
    /// The nonce of the entry that was asked for, if there is one.
    pub nonce: Option<Nonce>,
    /// Whether a hub that followed the log before this run of the server confirmed that nothing is
    /// missing, or the epoch began in this run.
    pub is_vouched: bool,
    /// Channels that [`channels`](RedisLog::channels) does not name have no event after this seq.
    /// None if a hub of an earlier version, which names none, appended the newest entry.
    pub unindexed: Option<Seq>,
}

impl RedisLog {
    /// Connects to a server, checks that it is fit to keep a log, and gives it the script. Times
    /// out after four seconds.
    pub async fn connect(options: &RedisOptions) -> Result<Self, RedisError> {
        within_time(async {
            let Prepared { connection, server, script } = prepare(options, SCRIPT).await?;
            let mut log = Self { connection, script, keys: Keys::of(options), server };
            log.probe().await?;
            Ok(log)
        })
        .await
    }

    /// Checks that the user may run all commands of an append: an append that is refused half way
    /// would leave the writes before that.
    async fn probe(&mut self) -> Result<(), RedisError> {
        let mut command = self.command();
        command.part("probe");
        let reply = self.connection.call(&command.parts(), COMMAND_TIME_MAX).await?;
        match reply.text() {
            Some("ok") => Ok(()),
            Some(denied) => Err(RedisError::Unsuitable(format!(
                "the user may not perform {denied}, which an append needs (docs/scaling.md lists the \
                 commands)"
            ))),
            None => Err(RedisError::Unexpected("the commands that the user may perform")),
        }
    }

    /// The run of the server.
    pub fn run(&self) -> &Run {
        &self.server.run
    }

    /// How many replicas the server had at the connect, if it takes writes without any of them
    /// (`min-replicas-to-write`).
    pub fn unguarded_replicas(&self) -> u64 {
        self.server.unguarded_replicas
    }

    /// Fails if the server has become a replica, which does not end its connections.
    pub async fn check_role(&mut self) -> Result<(), RedisError> {
        check_role(&mut self.connection).await
    }

    /// The state of the log, with the nonce of the entry at `seq`.
    pub async fn state(&mut self, seq: Seq) -> Result<LogState, RedisError> {
        let mut command = self.command();
        command.part("state").number(seq.0);
        let reply = self.connection.call(&command.parts(), COMMAND_TIME_MAX).await?;
        let unexpected = RedisError::Unexpected("the state of the log");
        let Some([epoch, last, first, nonce, run, unindexed]) = reply.array() else {
            return Err(unexpected);
        };
        let Some(last) = last.number() else { return Err(unexpected) };
        Ok(LogState {
            epoch: epoch.number().map(Epoch::from_u64),
            last: Seq(last),
            first: first.number().map(Seq),
            nonce: nonce.bytes().and_then(|bytes| bytes.try_into().ok()),
            is_vouched: run.text() == Some(self.run()),
            unindexed: unindexed.number().map(Seq),
        })
    }

    /// Begins another epoch, whose seqs are above `base`, if the log still has the expected epoch;
    /// `None` stands for a log that does not exist. Another hub may have been faster: ask for the
    /// [`state`](Self::state) afterwards.
    pub async fn begin_epoch(
        &mut self,
        expected: Option<Epoch>,
        new: Epoch,
        base: Seq,
    ) -> Result<(), RedisError> {
        let mut command = self.command();
        let expected = expected.map(|epoch| epoch.to_u64().to_string()).unwrap_or_default();
        command.part("begin").part(expected).number(new.to_u64()).number(base.0);
        command.part(self.run().to_string());
        self.connection.call(&command.parts(), COMMAND_TIME_MAX).await.map(drop)
    }

    /// Notes that this run of the server has lost nothing of an epoch, as far as this hub can tell.
    pub async fn vouch(&mut self, epoch: Epoch) -> Result<(), RedisError> {
        let mut command = self.command();
        command.part("vouch").number(epoch.to_u64()).part(self.run().to_string());
        self.connection.call(&command.parts(), COMMAND_TIME_MAX).await.map(drop)
    }

    /// Appends submissions in their order, each whole or not at all, if the log has what the fence
    /// stands for.
    pub async fn append(
        &mut self,
        fence: &Fence,
        limits: &AppendLimits,
        submissions: &[NewEntries],
    ) -> Result<Appended, RedisError> {
        let mut command = self.command();
        script::write_append(&mut command, fence, limits, submissions);
        let reply = self.connection.call(&command.parts(), COMMAND_TIME_MAX).await?;
        script::read_appended(&reply, submissions.len())
    }

    /// Up to `count` kept entries after a seq.
    pub async fn read(
        &mut self,
        after: Seq,
        count: usize,
    ) -> Result<Vec<(Seq, Entry)>, RedisError> {
        let (from, count) = (format!("({}-0", after.0), count.to_string());
        let parts: [&[u8]; 6] =
            [b"XRANGE", &self.keys.log, from.as_bytes(), b"+", b"COUNT", count.as_bytes()];
        let reply = self.connection.call(&parts, COMMAND_TIME_MAX).await?;
        read_entries(&reply)
    }

    /// Up to `count` entries after a seq. Waits up to `wait` for the first; empty if none came. If
    /// no answer comes for another `answer_max`, the command times out.
    pub async fn follow(
        &mut self,
        after: Seq,
        count: usize,
        wait: Duration,
        answer_max: Duration,
    ) -> Result<Vec<(Seq, Entry)>, RedisError> {
        let (after, count) = (format!("{}-0", after.0), count.to_string());
        let block = wait.as_millis().to_string();
        let parts: [&[u8]; 8] = [
            b"XREAD",
            b"COUNT",
            count.as_bytes(),
            b"BLOCK",
            block.as_bytes(),
            b"STREAMS",
            &self.keys.log,
            after.as_bytes(),
        ];
        match self.connection.call(&parts, wait + answer_max).await? {
            Reply::Nil => Ok(Vec::new()),
            // The one stream that was asked for: its name, and its entries.
            reply => match reply.array() {
                Some([stream]) => match stream.array() {
                    Some([_, entries]) => read_entries(entries),
                    _ => Err(NOT_A_STREAM),
                },
                _ => Err(NOT_A_STREAM),
            },
        }
    }

    /// Fails if the oldest or the newest entry is of another format than this version reads.
    pub async fn check_format(&mut self) -> Result<(), RedisError> {
        let ends: [[&[u8]; 6]; 2] = [
            [b"XRANGE", &self.keys.log, b"-", b"+", b"COUNT", b"1"],
            [b"XREVRANGE", &self.keys.log, b"+", b"-", b"COUNT", b"1"],
        ];
        for parts in ends {
            let reply = self.connection.call(&parts, COMMAND_TIME_MAX).await?;
            read_entries(&reply)?;
        }
        Ok(())
    }

    /// The newest seq of each channel, also of channels whose events were removed, ordered by these
    /// seqs. A channel that gets an event meanwhile is in the result with its newest seq before or
    /// after that.
    pub async fn channels(&mut self) -> Result<Vec<(ChannelName, Seq)>, RedisError> {
        let unexpected = || RedisError::Unexpected("the newest events of channels");
        let read = |pair: &[Reply]| {
            let name = ChannelName::parse(pair.first()?.text()?).ok()?;
            Some((name, Seq(pair.get(1)?.number()?)))
        };
        let count = CHANNELS_PAGE.to_string();
        let mut channels: Vec<(ChannelName, Seq)> = Vec::new();
        loop {
            let after = format!("({}", channels.last().map_or(Seq::ZERO, |(_, seq)| *seq).0);
            let parts: [&[u8]; 9] = [
                b"ZRANGE",
                &self.keys.channels,
                after.as_bytes(),
                b"+inf",
                b"BYSCORE",
                b"LIMIT",
                b"0",
                count.as_bytes(),
                b"WITHSCORES",
            ];
            let reply = self.connection.call(&parts, COMMAND_TIME_MAX).await?;
            let pairs = reply.array().ok_or_else(unexpected)?;
            let page = pairs.chunks(2).map(read).collect::<Option<Vec<_>>>();
            let page = page.ok_or_else(unexpected)?;
            let is_last = page.len() < CHANNELS_PAGE;
            channels.extend(page);
            // Seqs only grow: whatever moves while pages are read moves to the end, and is there
            // when a page is not full.
            if is_last {
                return Ok(channels);
            }
        }
    }

    /// The closed channels: the seq of each one's closing event, and when the channel was closed,
    /// in milliseconds since 1970.
    pub async fn closed(&mut self) -> Result<Vec<(ChannelName, Seq, u64)>, RedisError> {
        let unexpected = || RedisError::Unexpected("the closed channels");
        let read = |pair: &[Reply]| {
            let name = ChannelName::parse(pair.first()?.text()?).ok()?;
            let (closed_ms, seq) = pair.get(1)?.text()?.split_once(':')?;
            Some((name, Seq(seq.parse().ok()?), closed_ms.parse().ok()?))
        };
        let (mut closed, mut cursor) = (Vec::new(), Bytes::from_static(b"0"));
        loop {
            let parts: [&[u8]; 5] =
                [b"HSCAN", &self.keys.closed, &cursor, b"COUNT", CLOSED_COUNT.as_bytes()];
            let reply = self.connection.call(&parts, COMMAND_TIME_MAX).await?;
            let Some([Reply::Bulk(next), pairs]) = reply.array() else { return Err(unexpected()) };
            let pairs = pairs.array().ok_or_else(unexpected)?;
            let page = pairs.chunks(2).map(read).collect::<Option<Vec<_>>>();
            closed.extend(page.ok_or_else(unexpected)?);
            if &next[..] == b"0" {
                return Ok(closed);
            }
            cursor = Bytes::clone(next);
        }
    }

    /// Waits until the server ends the connection. Cancelling the wait has no effect.
    pub async fn ended(&mut self) -> RedisError {
        self.connection.ended().await
    }

    /// The beginning of a call of the script, without its arguments.
    fn command(&self) -> Command {
        let mut command = Command::default();
        command.part("EVALSHA").part(self.script.clone()).number(self.keys.all.len() as u64);
        for key in &self.keys.all {
            command.part(key.clone());
        }
        command
    }
}

impl std::fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLog").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Keys {
    fn of(options: &RedisOptions) -> Self {
        let key = |name: &str| options.key(name);
        let (log, closed, channels) = (key(LOG), key("closed"), key("channels"));
        let all = [
            log.clone(),
            key("meta"),
            key("keys"),
            key("keys:order"),
            closed.clone(),
            key("closed:order"),
            key("marks"),
            channels.clone(),
        ];
        Self { log, closed, channels, all }
    }
}

/// Decodes entries up to the first unreadable one; an error only if that is the first.
fn read_entries(reply: &Reply) -> Result<Vec<(Seq, Entry)>, RedisError> {
    let Some(entries) = reply.array() else { return Err(NOT_A_STREAM) };
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        match read_entry(entry) {
            Ok(entry) => read.push(entry),
            Err(error) if read.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(read)
}

fn read_entry(reply: &Reply) -> Result<(Seq, Entry), RedisError> {
    let Some([id, fields]) = reply.array() else { return Err(NOT_A_STREAM) };
    let id = id.text().unwrap_or_default();
    let foreign = || RedisError::Foreign(id.to_owned());
    let seq = id.strip_suffix("-0").and_then(|seq| seq.parse().ok()).ok_or_else(foreign)?;
    let Some([_, Reply::Bulk(entry), rest @ ..]) = fields.array() else { return Err(foreign()) };
    let mut entry = Entry::decode(seq, entry)?;
    let [link, previous] = rest else {
        return Err(if rest.is_empty() { RedisError::EarlierFormat { seq } } else { foreign() });
    };
    entry.previous = previous.bytes().and_then(|nonce| nonce.try_into().ok());
    let behind = link.text().and_then(|name| name.strip_prefix('p')?.parse().ok());
    entry.channel_before = behind.and_then(|behind| seq.checked_sub(behind)).map(Seq);
    Ok((Seq(seq), entry))
}

/// Closed channels of one page, approximately.
const CLOSED_COUNT: &str = "1000";
/// Channels of one page of [`RedisLog::channels`].
const CHANNELS_PAGE: usize = 1_000;
const NOT_A_STREAM: RedisError = RedisError::Unexpected("entries of a stream");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ChannelName, Draft, EventKind, NewEvent},
        redis::FORMAT,
    };

    fn entry(seq: u64, format: u8) -> Reply {
        let channel = ChannelName::parse("a").expect("a name");
        let draft = Draft::new(&NewEvent::message("x"));
        let mut bytes = Entry::encode([1; 8], EventKind::Published, 0, &channel, &draft);
        bytes[0] = format;
        let text = |text: String| Reply::Bulk(text.into());
        let field = |name: &str| text(name.into());
        let fields = vec![field("e"), Reply::Bulk(bytes.into()), field("p"), field("")];
        Reply::Array(vec![text(format!("{seq}-0")), Reply::Array(fields)])
    }

    /// An entry with other fields.
    fn changed(seq: u64, change: impl FnOnce(&mut Vec<Reply>)) -> Reply {
        let Reply::Array(mut whole) = entry(seq, FORMAT) else { unreachable!() };
        let mut fields = whole[1].array().expect("fields").to_vec();
        change(&mut fields);
        whole[1] = Reply::Array(fields);
        Reply::Array(vec![Reply::Array(whole)])
    }

    #[test]
    fn an_entry_says_how_far_behind_the_one_before_of_its_channel_is() {
        for (name, before) in [
            ("p1", Some(Seq(6))),
            ("p7", Some(Seq::ZERO)),
            ("p8", None),
            ("p-1", None),
            ("p1.5", None),
            // As hubs of an earlier version write it.
            ("p", None),
        ] {
            let page = changed(7, |fields| fields[2] = Reply::Bulk(name.into()));
            let read = read_entries(&page).expect("an entry");
            assert_eq!(read[0].1.channel_before, before, "{name}");
        }
    }

    #[test]
    fn an_entry_without_a_link_is_of_the_earlier_format() {
        let page = changed(7, |fields| fields.truncate(2));
        let error = read_entries(&page).expect_err("no link");
        assert!(matches!(error, RedisError::EarlierFormat { seq: 7 }), "{error}");
        assert!(error.is_permanent() && error.ends_following());
    }

    #[test]
    fn what_comes_before_an_entry_of_a_later_format_is_read() {
        let page = |entries: &[Reply]| read_entries(&Reply::Array(entries.to_vec()));
        let all = [entry(1, FORMAT), entry(2, FORMAT), entry(3, FORMAT + 1), entry(4, FORMAT)];
        let read = page(&all).expect("two");
        assert_eq!(read.iter().map(|(seq, _)| seq.0).collect::<Vec<_>>(), [1, 2]);
        let error = page(&all[2..]).expect_err("a later format");
        assert!(matches!(error, RedisError::NewerFormat { seq: 3, .. }), "{error}");
    }
}
