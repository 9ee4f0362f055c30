//! Transient channels beside history beyond memory: theirs is in memory alone, that of the others
//! is not.

use proptest::prelude::*;

use super::{
    model::{check, publish_next},
    *,
};
use crate::{core::ChannelRule, model::ChannelPattern};

fn transient(patterns: &[&str]) -> Vec<ChannelRule> {
    let rule = |pattern: &&str| {
        let mut rule = ChannelRule::new(ChannelPattern::parse(pattern).expect("a pattern"));
        rule.durable = Some(false);
        rule
    };
    patterns.iter().map(rule).collect()
}

async fn start(path: &Path, limits: Limits, patterns: &[&str]) -> Hub {
    let reads = ReadLimits { piece_bytes: 1_024, ..ReadLimits::default() };
    let options = DiskOptions { reads, segment_bytes: 64 << 10, ..DiskOptions::new(path) };
    let hub = Hub::builder().shards(1).limits(limits).disk(options);
    hub.channel_rules(transient(patterns)).start().await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_channels_are_read_from_disk_beside_transient_ones_and_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hub = start(directory.path(), small_memory(), &["t/**"]).await;
    let mut first = None;
    for n in 0..500 {
        let at = publish(&hub, [("a", 2 * n)]).await;
        first.get_or_insert(at);
        publish(&hub, [("t/x", 2 * n + 1)]).await;
    }
    let first = first.expect("positions");
    let info = hub.channel(&name("a")).expect("it is there");
    assert_eq!((info.events_retained, info.truncated), (500, false));
    let info = hub.channel(&name("t/x")).expect("it is there");
    let oldest = info.first_id.expect("some are in memory").seq.0 - 1;
    assert!(info.truncated && (950..1_000).contains(&oldest), "{info:?}");
    let durable = numbers((0..1_000).step_by(2));
    let all: Vec<_> =
        (0..1_000).filter(|n| n % 2 == 0 || *n >= oldest).map(Some).collect::<Vec<_>>();
    for (selectors, expected) in [
        (&["a"][..], &durable),
        (&["a/**"], &durable),
        (&["a", "t/x"], &all),
        (&["**"], &all),
        (&["a", "t/*"], &all),
    ] {
        // A poll at a position has a gap if events behind that are lost, and knows no earlier poll.
        let mut polled = polled(&hub, selectors, Start::Earliest).await;
        polled.retain(Option::is_some);
        assert_eq!(polled, *expected, "{selectors:?}");
        let streamed = streamed(&hub, selectors, Start::Earliest, expected.len()).await;
        assert_eq!(streamed, *expected, "{selectors:?}");
        // Without the first event; with the gap where a price is lost.
        let is_lost = expected.len() > durable.len();
        let expected: Vec<_> = is_lost
            .then_some(None)
            .into_iter()
            .chain(expected[1..].iter().copied())
            .collect::<Vec<_>>();
        let streamed = super::streamed(&hub, selectors, Start::At(first), expected.len()).await;
        assert_eq!(streamed, expected, "{selectors:?}");
    }
    hub.shut_down().await;
    drop(hub);
    hub = start(directory.path(), small_memory(), &["t/**"]).await;
    for selectors in [&["a"][..], &["**"], &["a", "t/x"]] {
        let mut polled = polled(&hub, selectors, Start::Earliest).await;
        polled.retain(Option::is_some);
        assert_eq!(polled, durable, "{selectors:?}");
        assert_eq!(streamed(&hub, selectors, Start::Earliest, 500).await, durable);
    }
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_disk_gets_on_while_a_transient_channel_loses_events_all_the_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let hub = start(directory.path(), small_memory(), &["t"]).await;
    for n in 0..2_000 {
        publish(&hub, [("a", n)]).await;
    }
    let publisher = hub.clone();
    let publishing = tokio::spawn(async move {
        for n in 0.. {
            publish(&publisher, [("t", 1_000_000 + n)]).await;
        }
    });
    for selectors in [&["a", "t"][..], &["**"], &["a", "*"]] {
        let mut stream = open(&hub, selectors, Start::Earliest).await;
        let mut received = Received::default();
        let all = async {
            while !received.found.contains(&Some(1_999)) {
                received.take(&mut stream).await;
            }
        };
        timeout(PATIENCE, all).await.expect("it gets on");
        let durable: Vec<_> =
            received.found.iter().flatten().filter(|n| **n < 1_000_000).copied().collect();
        assert_eq!(durable, (0..2_000).collect::<Vec<_>>(), "{selectors:?}");
        // Each number of the transient channel that is left out stands behind a gap.
        let mut before = None;
        for found in received.found {
            match found {
                None => before = None,
                Some(n) if n >= 1_000_000 => {
                    assert!(before.is_none_or(|before| before + 1 == n), "{before:?} {n}");
                    before = Some(n);
                }
                Some(_) => {}
            }
        }
        // Nor do polls stand still.
        let mut start = Start::Earliest;
        let mut polled = Vec::new();
        while polled.last() != Some(&1_999) {
            let answer = hub.poll_now(&poll(selectors, start)).await.expect("an answer");
            let answer = match answer {
                PollNow::Answer(answer) => answer,
                // Something was lost since it began: a shard would answer with a gap.
                PollNow::Wait(wait) => {
                    start = Start::At(wait.position);
                    continue;
                }
            };
            let data = answer.events.iter().map(|event| event.data().parse::<u64>());
            polled.extend(data.filter_map(Result::ok).filter(|n| *n < 1_000_000));
            start = Start::At(answer.position);
        }
        assert_eq!(polled, (0..2_000).collect::<Vec<_>>(), "{selectors:?}");
    }
    publishing.abort();
    hub.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_transient_channel_does_not_keep_segments() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut limits = small_memory();
    limits.history.events_max = 20;
    limits.history.total_bytes_max = 1 << 30;
    let hub = start(directory.path(), limits, &["t"]).await;
    publish(&hub, [("t", 0)]).await;
    for batch in 0..100 {
        publish(&hub, (0..50).map(|n| ("a", batch * 50 + n))).await;
    }
    let removed = async {
        while directory.path().join("00000000000000000001.log").exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, removed).await.expect("its events are evicted");
    let expected = numbers([0].into_iter().chain(4_980..5_000));
    for selectors in [&["**"][..], &["a", "t"]] {
        assert_eq!(polled(&hub, selectors, Start::Earliest).await, expected);
        assert_eq!(streamed(&hub, selectors, Start::Earliest, 21).await, expected);
    }
    hub.shut_down().await;
}

#[derive(Debug, Clone)]
enum TransientStep {
    /// Events to some of the channels.
    Publish(Vec<u8>),
    /// Which channels are transient from now on.
    Rules(u8),
    Read(u8),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// As without transient channels, and whichever they are: publishes across both, and rules that
    /// change under way.
    #[test]
    fn readers_agree_with_a_naive_model_whatever_channels_are_transient(
        steps in proptest::collection::vec(
            prop_oneof![
                8 => proptest::collection::vec(0u8..4, 1..30).prop_map(TransientStep::Publish),
                8 => (0u8..4).prop_map(|channel| TransientStep::Publish(vec![channel])),
                3 => any::<u8>().prop_map(TransientStep::Rules),
                4 => any::<u8>().prop_map(TransientStep::Read),
            ],
            1..40,
        ),
        events_max in 1u32..60, memory in 1u64..8_000,
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let mut limits = small_memory();
            limits.history.events_max = events_max;
            limits.history.total_bytes_max = memory;
            let hub = start(directory.path(), limits, &["b/*"]).await;
            let channels = ["a", "b/1", "b/2", "c"];
            let mut log: Vec<(Position, &str, u64)> = Vec::new();
            for step in steps {
                match step {
                    TransientStep::Publish(targets) => {
                        let targets = targets.iter().map(|target| channels[usize::from(*target)]);
                        publish_next(&hub, &mut log, targets).await;
                    }
                    TransientStep::Rules(rules) => {
                        let is_transient = |n: &usize| rules & (1 << n) != 0;
                        let patterns: Vec<&str> =
                            (0..4).filter(is_transient).map(|n| channels[n]).collect();
                        hub.set_channel_rules(transient(&patterns)).await.expect("few rules");
                    }
                    TransientStep::Read(from) => check(&hub, &log, &channels, from).await,
                }
            }
            check(&hub, &log, &channels, 0).await;
            hub.shut_down().await;
        });
    }
}
