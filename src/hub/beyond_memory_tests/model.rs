//! Readers of a history that is larger than memory, compared with a naive model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A step, which the hub and a naive model make.
#[derive(Debug, Clone)]
enum Step {
    /// Events to some of four channels.
    Publish(Vec<u8>),
    Restart,
    Read(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => proptest::collection::vec(0u8..4, 1..30).prop_map(Step::Publish),
        1 => Just(Step::Restart),
        4 => any::<u8>().prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 1..25)
}

/// Publishes the next numbers to these channels, and adds them to what was published.
pub(super) async fn publish_next<'a>(
    hub: &Hub,
    log: &mut Vec<(Position, &'a str, u64)>,
    channels: impl Iterator<Item = &'a str>,
) {
    let events: Vec<_> = channels.zip(log.len() as u64..).collect();
    let last = publish(hub, events.clone()).await;
    let seqs = last.seq.0 + 1 - events.len() as u64..;
    for ((channel, n), seq) in events.into_iter().zip(seqs) {
        log.push((Position { seq: Seq(seq), ..last }, channel, n));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Readers from everywhere, by names and patterns, get the events that channel info speaks of,
    /// in order and once; a gap if and only if events after their position are gone.
    #[test]
    fn readers_agree_with_a_naive_model(
        steps in steps(), events_max in 1u32..60, memory in 1u64..8_000, segment_kib in 64u64..66,
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let mut limits = small_memory();
            limits.history.events_max = events_max;
            limits.history.total_bytes_max = memory;
            let options = DiskOptions {
                segment_bytes: segment_kib << 10,
                reads: ReadLimits { piece_bytes: 1_024, ..ReadLimits::default() },
                ..DiskOptions::new(directory.path())
            };
            let mut hub = start_with(options.clone(), limits.clone()).await;
            let channels = ["a", "b/1", "b/2", "c"];
            // What was published: position, channel, number.
            let mut log: Vec<(Position, &str, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Publish(targets) => {
                        let targets = targets.iter().map(|target| channels[usize::from(*target)]);
                        publish_next(&hub, &mut log, targets).await;
                    }
                    Step::Restart => {
                        hub.shut_down().await;
                        drop(hub);
                        hub = start_with(options.clone(), limits.clone()).await;
                    }
                    Step::Read(from) => check(&hub, &log, &channels, from).await,
                }
            }
            check(&hub, &log, &channels, 0).await;
            hub.shut_down().await;
        });
    }
}

/// Checks what readers get at a position, chosen by `from`, against the log.
pub(super) async fn check(hub: &Hub, log: &[(Position, &str, u64)], channels: &[&str], from: u8) {
    let first_ids: BTreeMap<&str, Seq> = channels
        .iter()
        .filter_map(|channel| {
            let info = hub.channel(&name(channel))?;
            let first = info.first_id?.seq;
            let retained =
                log.iter().filter(|(at, of, _)| of == channel && at.seq >= first).count();
            assert_eq!(info.events_retained, retained as u64, "{channel}");
            Some((*channel, first))
        })
        .collect();
    let retained =
        |channel: &str, at: Seq| first_ids.get(channel).is_some_and(|first| at >= *first);
    let start = match usize::from(from) * log.len() / 256 {
        0 => Start::Earliest,
        n => Start::At(log[n - 1].0),
    };
    let after = match &start {
        Start::At(at) => at.seq,
        _ => Seq::ZERO,
    };
    let pattern = |text: &'static str| ChannelSelector::parse(text).expect("a selector");
    for selectors in [&["a"][..], &["b/1", "c"], &["b/*"], &["c/**"], &["**"], &["a", "b/2", "**"]]
    {
        let wants = |channel: &str| {
            let is_of = |selector: &&'static str| match pattern(selector) {
                ChannelSelector::Name(name) => name.as_str() == channel,
                ChannelSelector::Pattern(pattern) => pattern.matches(&name(channel)),
            };
            selectors.iter().any(is_of)
        };
        let wanted = log.iter().filter(|(at, channel, _)| at.seq > after && wants(channel));
        let has_lost = wanted.clone().any(|(at, channel, _)| !retained(channel, at.seq));
        let gap = (has_lost && after > Seq::ZERO).then_some(None);
        let kept = wanted.filter(|(at, channel, _)| retained(channel, at.seq));
        let expected: Vec<Option<u64>> =
            gap.into_iter().chain(kept.map(|(_, _, n)| Some(*n))).collect();
        // Polls are one by one, so a later one may begin before a loss of another channel.
        let mut polled = polled(hub, selectors, start.clone()).await;
        let gap_first = polled.first() == Some(&None);
        assert_eq!(gap_first, gap.is_some(), "{selectors:?}");
        polled.retain(Option::is_some);
        assert_eq!(polled, expected[usize::from(gap_first)..], "{selectors:?}");
        let streamed = streamed(hub, selectors, start.clone(), expected.len()).await;
        assert_eq!(streamed, expected, "{selectors:?}");
    }
}
