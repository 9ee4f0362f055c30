//! The corner cases of the engine, each by its name.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    pipe::Pipe,
    world::{
        Ask, START_MS, World, join, join_after, join_and_stop, poll, read_answer, reasons, world,
        world_with,
    },
};
use crate::{
    actors::{
        peer::{Input, Peer, SlotWaker},
        slot_key::SlotKey,
        subscriber::Form,
    },
    core::CloseReason,
    model::{ChannelName, EnvelopeAnswers, EnvelopeEncoding, NewEvent, Start},
};

#[test]
fn an_event_published_between_registration_and_replay_comes_once() {
    let mut world = world();
    world.say("a", "1");
    // It registers while the first event is still on its way to the shard, and replays when the
    // second is.
    let pipe = Pipe::new(0, usize::MAX);
    world.attach(0, &Ask::stream(&["a"]).from(Start::Earliest), &pipe);
    world.say("a", "2");
    world.push_batch(0);
    pipe.grant(usize::MAX);
    world.engines[0].serve_ready(9, world.now_ms);
    world.settle();
    world.say("a", "3");
    world.settle();
    assert_eq!(pipe.events(), ["1", "2", "3"]);
}

#[test]
fn history_ahead_of_the_ring_is_not_sent_again() {
    let mut world = world();
    world.say("a", "before");
    world.say("a", "too");
    let live = join(&mut world, &Ask::stream(&["a"]));
    let replay = join(&mut world, &Ask::stream(&["a"]).from(Start::Earliest));
    let mixed = join_after(&mut world, &["**"], 1);
    world.settle();
    assert_eq!(live.events(), [""; 0]);
    assert_eq!(replay.events(), ["before", "too"]);
    assert_eq!(mixed.events(), ["too"]);
}

#[test]
fn a_channel_created_between_registration_and_replay_is_replayed() {
    let mut world = world();
    world.say("a", "1");
    let pipe = Pipe::new(0, usize::MAX);
    world.attach(0, &Ask::stream(&["**"]).from(Start::Earliest), &pipe);
    world.say("b", "2");
    world.say("c", "3");
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(pipe.events(), ["1", "2", "3"]);
}

#[test]
fn a_channel_created_later_is_matched_on_first_sight() {
    let mut world = world();
    let pipe = join(&mut world, &Ask::stream(&["g/*"]));
    world.say("g/x", "1");
    world.say("other", "2");
    world.settle();
    world.say("g/y", "3");
    world.settle();
    assert_eq!(pipe.events(), ["1", "3"]);
}

#[test]
fn a_client_that_changes_between_stream_and_poll_loses_and_repeats_nothing() {
    let mut world = world();
    let stream = join(&mut world, &Ask::stream(&["a", "b"]));
    world.say("a", "1");
    world.settle();
    world.say("b", "2");
    let at = Start::parse(&stream.last_id()).unwrap();
    let answer = join(&mut world, &poll(&["a", "b"], at));
    assert!(answer.is_ended(), "there is an event already");
    let (position, events) = read_answer(&answer);
    assert_eq!(events, ["2"]);
    let waiting = join(&mut world, &poll(&["a", "b"], Start::parse(&position).unwrap()));
    world.settle();
    assert!(!waiting.is_ended(), "it has the event of the batch that came too late");
    world.say("a", "3");
    world.settle();
    let (position, events) = read_answer(&waiting);
    assert_eq!(events, ["3"]);
    let start = Start::parse(&position).unwrap();
    let stream = join(&mut world, &Ask::stream(&["a", "b"]).from(start));
    world.say("b", "4");
    world.settle();
    assert_eq!(stream.events(), ["4"]);
}

#[test]
fn a_poll_that_finds_nothing_is_answered_at_its_deadline_and_moves_on() {
    let mut world = world();
    let pipe = join(&mut world, &poll(&["a"], Start::Now));
    world.say("b", "not for it");
    world.settle();
    world.tick(19_999);
    assert!(!pipe.is_ended());
    world.tick(65);
    assert!(pipe.is_ended());
    assert_eq!(pipe.text(), format!("204 {}\n", world.backend.position(world.backend.head())));
}

#[test]
fn polls_that_wait_for_the_same_get_the_same() {
    let mut world = world();
    let pipes: Vec<_> = (0..20).map(|_| join(&mut world, &poll(&["a"], Start::Now))).collect();
    let mut limited = poll(&["a"], Start::Now);
    limited.form = Form::Poll { encoding: &EnvelopeAnswers, limit: 1 };
    let limited = join(&mut world, &limited);
    world.publish(&[("a", NewEvent::message("1")), ("a", NewEvent::message("2"))]);
    world.settle();
    for pipe in &pipes {
        assert_eq!(read_answer(pipe).1, ["1", "2"]);
    }
    let (position, events) = read_answer(&limited);
    assert_eq!(events, ["1"]);
    assert_eq!(Start::parse(&position), Ok(world.at(1)), "the second comes with the next poll");
}

#[test]
fn two_channels_of_one_connection_in_one_batch_come_in_log_order() {
    let mut world = world();
    let pipe = join(&mut world, &Ask::stream(&["a", "b"]));
    let message = NewEvent::message;
    world.publish(&[("b", message("1")), ("a", message("2")), ("b", message("3"))]);
    world.settle();
    assert_eq!(pipe.events(), ["1", "2", "3"]);
    assert_eq!(pipe.writes(), 2, "the first block and one send");
}

#[test]
fn a_pattern_and_a_name_for_the_same_channel_deliver_once() {
    let mut world = world();
    world.say("a", "0");
    let ask = Ask::stream(&["a", "*", "**"]);
    let pipe = join(&mut world, &ask.clone().from(Start::Earliest));
    let live = join(&mut world, &ask);
    world.say("a", "1");
    world.say("b", "2");
    world.settle();
    assert_eq!(pipe.events(), ["0", "1", "2"]);
    assert_eq!(live.events(), ["1", "2"]);
}

#[test]
fn a_small_channel_does_not_wait_for_a_large_one() {
    let mut world = world();
    let large: Vec<_> = (0..50).map(|_| join(&mut world, &Ask::stream(&["large"]))).collect();
    let small = join(&mut world, &Ask::stream(&["small"]));
    world.say("large", "1");
    world.say("small", "2");
    world.push_batch(0);
    world.engines[0].work(world.now_ms);
    world.push_batch(0);
    world.engines[0].work(world.now_ms);
    assert_eq!(small.events(), ["2"]);
    assert!(large.iter().any(|pipe| pipe.events().is_empty()));
    world.settle();
    assert!(large.iter().all(|pipe| pipe.events() == ["1"]));
}

#[test]
fn a_pass_makes_a_bounded_number_of_sends_however_many_small_channels_a_batch_has() {
    let mut world = world();
    let names: [&'static str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let pipes = names.map(|name| join(&mut world, &Ask::stream(&[name])));
    let events = names.map(|name| (name, NewEvent::message("x")));
    world.publish(&events);
    world.publish(&events);
    world.push_batch(0);
    world.push_batch(0);
    let mut before = 0;
    let mut passes = 0;
    while world.engines[0].work(world.now_ms) {
        let sends: usize = pipes.iter().map(|pipe| pipe.writes() - 1).sum();
        assert!(sends - before <= 3, "{} sends in a pass", sends - before);
        before = sends;
        passes += 1;
    }
    assert!(passes >= 7, "{passes} passes");
    assert!(pipes.iter().all(|pipe| pipe.events() == ["x", "x"]));
}

#[test]
fn a_pass_sends_a_bounded_number_of_heartbeats() {
    let mut world = world();
    let pipes: Vec<_> = (0..20).map(|_| join(&mut world, &Ask::stream(&["a"]))).collect();
    world.now_ms += 60_000;
    let mut before = 0;
    let mut passes = 1;
    while world.engines[0].tick(world.now_ms) {
        let sent: usize = pipes.iter().map(|pipe| pipe.writes() - 1).sum();
        assert!(sent - before <= 3, "{} heartbeats in a pass", sent - before);
        before = sent;
        passes += 1;
    }
    assert!(passes >= 6, "{passes} passes");
    assert!(pipes.iter().all(|pipe| pipe.writes() == 2), "one heartbeat each");
}

#[test]
fn a_connection_that_has_both_channels_is_never_overtaken() {
    let mut world = world();
    let large: Vec<_> = (0..50).map(|_| join(&mut world, &Ask::stream(&["large"]))).collect();
    let both: Vec<_> =
        (0..9).map(|_| join(&mut world, &Ask::stream(&["large", "small"]))).collect();
    world.say("large", "1");
    world.say("small", "2");
    world.push_batch(0);
    world.engines[0].work(world.now_ms);
    world.push_batch(0);
    world.settle();
    assert!(both.iter().all(|pipe| pipe.events() == ["1", "2"]));
    assert!(large.iter().all(|pipe| pipe.events() == ["1"]));
}

#[test]
fn events_that_come_while_a_round_is_under_way_are_one_send() {
    let mut world = world();
    let pipes: Vec<_> = (0..10).map(|_| join(&mut world, &Ask::stream(&["a"]))).collect();
    world.say("a", "1");
    world.push_batch(0);
    world.engines[0].work(world.now_ms);
    for data in ["2", "3", "4"] {
        world.say("a", data);
    }
    world.settle();
    for pipe in &pipes {
        assert_eq!(pipe.events(), ["1", "2", "3", "4"]);
        assert_eq!(pipe.writes(), 3, "the first block and two rounds");
    }
}

#[test]
fn a_client_that_joins_in_the_middle_of_a_gathered_round_gets_its_part() {
    for topic in ["a", "**"] {
        let mut world = world();
        for _ in 0..10 {
            join(&mut world, &Ask::stream(&["a"]));
        }
        world.say("a", "1");
        world.push_batch(0);
        world.engines[0].work(world.now_ms);
        world.say("a", "2");
        world.push_batch(0);
        let pipe = join(&mut world, &Ask::stream(&[topic]));
        world.say("a", "3");
        world.settle();
        assert_eq!(pipe.events(), ["3"], "{topic}");
    }
}

/// An event for each of `channels` channels, in one batch.
fn wide(world: &mut World, channels: usize) -> Vec<String> {
    let names: Vec<String> = (0..channels).map(|n| format!("c/{n}")).collect();
    let events: Vec<_> =
        names.iter().map(|name| (name.as_str(), NewEvent::message(name.as_str()))).collect();
    world.publish(&events);
    names
}

#[test]
fn a_batch_of_very_many_channels_comes_whole_in_order_and_in_one_send() {
    let mut world = world();
    let all = [
        join(&mut world, &Ask::stream(&["**"])),
        join(&mut world, &Ask::stream(&["c/*"])),
        join(&mut world, &Ask::stream(&["c/*", "c/7", "**"])),
    ];
    let some = join(&mut world, &Ask::stream(&["c/998", "c/1", "c/999"]));
    let poll = join(&mut world, &poll(&["c/5", "c/800"], Start::Now));
    let names = wide(&mut world, 1_000);
    world.settle();
    for pipe in &all {
        assert_eq!(pipe.events(), names);
        assert_eq!(pipe.writes(), 2, "the first block and one send");
    }
    assert_eq!(some.events(), ["c/1", "c/998", "c/999"]);
    assert_eq!(some.writes(), 2);
    assert_eq!(read_answer(&poll).1, ["c/5", "c/800"]);
}

#[test]
fn events_of_very_many_channels_count_as_lag() {
    let mut world = world_with(|limits| limits.connections.lag_events_max = 1_000);
    let stuck = join_and_stop(&mut world, &Ask::stream(&["**"]));
    for _ in 0..10 {
        assert!(!stuck.is_ended());
        wide(&mut world, 100);
        world.settle();
    }
    assert!(!stuck.is_ended(), "at its bound");
    world.say("one", "more");
    world.settle();
    assert!(stuck.is_ended(), "past it");
    assert_eq!(reasons(&mut world), [CloseReason::SlowConsumer]);
}

#[test]
fn a_batch_larger_than_the_lag_bound_ends_no_client_that_reads() {
    for topic in [&["c/*"][..], &["a"]] {
        let mut world = world_with(|limits| limits.connections.lag_events_max = 10);
        let ask = Ask::stream(topic);
        let (slow, stuck) = (join(&mut world, &ask), join(&mut world, &ask));
        // Some room, as a socket has: less than the batch needs.
        for pipe in [&slow, &stuck] {
            pipe.stop();
            pipe.grant(500);
        }
        match topic {
            ["a"] => world.publish(&vec![("a", NewEvent::message("x")); 500]),
            _ => drop(wide(&mut world, 500)),
        }
        world.settle();
        let name = if topic == ["a"] { "a" } else { "c/1" };
        world.say(name, "next");
        world.settle();
        assert!(!slow.is_ended() && !stuck.is_ended());
        while slow.events().len() < 501 {
            slow.grant(500);
            world.settle();
        }
        for _ in 0..50 {
            world.say(name, "more");
            world.settle();
            slow.grant(500);
            world.settle();
        }
        assert!(!slow.is_ended());
        assert!(stuck.is_ended(), "it takes nothing more");
        assert_eq!(reasons(&mut world), [CloseReason::SlowConsumer]);
    }
}

#[test]
fn every_form_gets_the_same_events() {
    let mut world = world();
    let forms = [Form::Frames, Form::Framed(&EnvelopeEncoding)];
    let pipes = forms.map(|form| join(&mut world, &Ask { form, ..Ask::stream(&["a"]) }));
    world.say("a", "1");
    world.settle();
    assert_eq!(pipes[0].events(), ["1"]);
    let envelope: serde_json::Value = serde_json::from_str(&pipes[1].events()[0]).unwrap();
    assert_eq!((&envelope["channel"], &envelope["data"]), (&"a".into(), &"1".into()));
    assert_eq!(pipes[0].last_id(), pipes[1].last_id());
}

#[test]
fn a_slot_reused_while_a_round_is_under_way_gets_nothing_of_it() {
    for selectors in [&["a"][..], &["a", "b"]] {
        let mut world = world();
        let mut keys: Vec<SlotKey> = Vec::new();
        let mut pipes = Vec::new();
        for _ in 0..10 {
            let pipe = Pipe::open();
            keys.push(world.attach(0, &Ask::stream(selectors), &pipe).1);
            pipes.push(pipe);
        }
        world.say("a", "1");
        world.push_batch(0);
        while pipes.iter().all(|pipe| pipe.events().is_empty()) {
            world.engines[0].work(world.now_ms);
        }
        let late: Vec<usize> = (0..10).filter(|&n| pipes[n].events().is_empty()).collect();
        assert!(!late.is_empty() && late.len() < 10, "the round is under way");
        // Two leave; others come into their slots, on the same channels and on another.
        world.engines[0].close(keys[late[0]], CloseReason::PeerClosed);
        world.engines[0].close(keys[late[1]], CloseReason::PeerClosed);
        let (same, other) = (Pipe::open(), Pipe::open());
        let reused = [
            world.attach(0, &Ask::stream(selectors), &same).1.index,
            world.attach(0, &Ask::stream(&["z"]), &other).1.index,
        ];
        assert!(reused.contains(&keys[late[0]].index) && reused.contains(&keys[late[1]].index));
        // An old address finds no connection.
        world.engines[0].close(keys[late[0]], CloseReason::PeerClosed);
        assert!(!same.is_ended() && !other.is_ended());
        world.settle();
        world.say("a", "2");
        world.say("z", "3");
        world.settle();
        assert_eq!(same.events(), ["2"]);
        assert_eq!(other.events(), ["3"]);
        for (n, pipe) in pipes.iter().enumerate() {
            match late[..2].contains(&n) {
                true => assert_eq!(pipe.events(), [""; 0]),
                false => assert_eq!(pipe.events(), ["1", "2"]),
            }
        }
    }
}

/// Whose first write panics.
#[derive(Debug)]
struct Panicking;

impl Peer for Panicking {
    fn try_write(&mut self, _: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        panic!("planted fault in a peer")
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

#[test]
fn a_panic_while_a_connection_is_attached_leaves_nothing_of_it() {
    for (selectors, is_planted_before) in
        [(&["a"][..], false), (&["a", "g/*"], false), (&["a"], true), (&["a", "g/*"], true)]
    {
        let mut world = world();
        world.say("a", "1");
        let mut ask = Ask::stream(selectors).from(Start::Earliest);
        ask.ends_after_ms = Some(1_000);
        let subscriber = world.subscriber(&ask);
        let id = subscriber.id;
        if is_planted_before {
            world.engines[0].plant_fault_in_next();
        }
        world.engines[0].attach(subscriber, Box::new(Panicking), Bytes::new(), None, START_MS);
        assert_eq!(world.ended(0), [(id, CloseReason::Panicked)]);
        assert!(world.engines[0].is_empty());
        assert!(world.entry("a").has_no_subscribers());
        assert_eq!(world.metrics.streams.get(), 0);
        // The next connection gets its slot, and is sent each event once.
        let pipes = [Pipe::open(), Pipe::open()];
        for pipe in &pipes {
            world.attach(0, &Ask::stream(selectors), pipe);
        }
        world.say("a", "2");
        world.settle();
        for pipe in &pipes {
            assert_eq!(pipe.events(), ["2"], "{selectors:?}");
        }
        pipes[0].hang_up();
        world.settle();
        world.say("a", "3");
        world.settle();
        assert_eq!(pipes[1].events(), ["2", "3"], "{selectors:?}");
        // A deadline of the one that panicked belongs to no connection.
        world.tick(2_000);
        assert_eq!(world.ended(0).len(), 1, "only who hung up has ended");
    }
}

#[test]
fn a_panicking_step_ends_one_connection_of_a_thousand() {
    let mut world = world();
    let topics: [&[&str]; 4] = [&["a"], &["a", "b"], &["**"], &["a"]];
    let pipes: Vec<_> = (0..1_000).map(|n| join(&mut world, &Ask::stream(topics[n % 4]))).collect();
    world.say("a", "1");
    world.settle();
    assert!(world.engines[0].plant_fault(&ChannelName::parse("a").unwrap()));
    world.say("a", "2");
    world.settle();
    world.say("a", "3");
    world.settle();
    assert_eq!(reasons(&mut world), [CloseReason::Panicked]);
    let ended: Vec<_> = pipes.iter().filter(|pipe| pipe.is_ended()).collect();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].events(), ["1"]);
    let others = pipes.iter().filter(|pipe| !pipe.is_ended());
    assert!(others.clone().all(|pipe| pipe.events() == ["1", "2", "3"]));
    assert_eq!(world.engines[0].len(), 999);
}

#[test]
fn a_client_that_hangs_up_is_noticed_without_a_write() {
    let mut world = world();
    let pipe = join(&mut world, &Ask::stream(&["a"]));
    pipe.hang_up();
    world.settle();
    assert!(pipe.is_ended());
    assert!(world.entry("a").has_no_subscribers());
}

#[test]
fn a_heartbeat_has_an_id_only_if_the_last_one_is_far_behind_or_old() {
    for (others, heartbeats, has_id) in
        [(0, 1, false), (4_096, 1, false), (4_097, 1, true), (1, 19, false), (1, 20, true)]
    {
        let mut world = world();
        let filtered = Ask { types: vec!["t"], ..Ask::stream(&["other"]) };
        let asks = [Ask::stream(&["a"]), Ask::stream(&["a", "b"]), filtered];
        let pipes = asks.map(|ask| join(&mut world, &ask));
        let first = pipes[0].last_id();
        for n in 0..others {
            world.say("other", &n.to_string());
            if n % 500 == 0 {
                world.settle();
            }
        }
        world.settle();
        world.tick(14_900);
        assert_eq!(pipes[0].writes(), 1, "too early");
        for _ in 0..heartbeats {
            world.tick(15_064);
        }
        let head = world.backend.position(world.backend.head()).to_string();
        let last_id = if has_id { head } else { first };
        for pipe in pipes {
            assert_eq!(pipe.last_id(), last_id, "{others}, {heartbeats}: {}", pipe.text());
            assert_eq!(pipe.writes(), 1 + heartbeats);
            assert_eq!(pipe.text().ends_with("\n:\n"), !has_id, "{}", pipe.text());
        }
    }
}

#[test]
fn what_is_sent_starts_the_time_of_an_id_anew() {
    let mut world = world();
    let pipe = join(&mut world, &Ask::stream(&["a"]));
    for round in 0..30 {
        world.tick(15_064);
        assert!(pipe.text().ends_with(":\n"), "{}", pipe.text());
        if round % 15 == 0 {
            world.say("a", "1");
            world.settle();
        }
    }
}

#[test]
fn a_heartbeat_never_moves_past_an_undelivered_event() {
    for selectors in [&["a"][..], &["a", "b"]] {
        let mut world = world();
        let pipes: Vec<_> = (0..10).map(|_| join(&mut world, &Ask::stream(selectors))).collect();
        let before = pipes[0].last_id();
        world.say("a", "1");
        world.push_batch(0);
        world.engines[0].work(world.now_ms);
        world.tick(20_000);
        let waiting: Vec<_> = pipes.iter().filter(|pipe| pipe.events().is_empty()).collect();
        assert!(!waiting.is_empty(), "the round is under way");
        for pipe in waiting {
            assert_eq!(pipe.writes(), 2, "a heartbeat");
            assert_eq!(pipe.last_id(), before);
        }
        world.settle();
        assert!(pipes.iter().all(|pipe| pipe.events() == ["1"]));
    }
}

#[test]
fn a_drain_ends_each_stream_at_its_own_time_with_its_own_retry() {
    let mut world = world();
    let pipes: Vec<_> = (0..100).map(|_| join(&mut world, &Ask::stream(&["a"]))).collect();
    let poll = join(&mut world, &poll(&["a"], Start::Now));
    let (left, mut empty) = oneshot::channel();
    world.drain(2_000);
    world.engines[0].when_empty(left);
    let late = join(&mut world, &Ask::stream(&["a"]));
    world.tick(1_000);
    let half = pipes.iter().filter(|pipe| pipe.is_ended()).count();
    assert!((20..80).contains(&half), "{half} of 100 at half time");
    assert_eq!(empty.try_recv(), Err(TryRecvError::Empty));
    world.say("a", "1");
    world.settle();
    world.tick(1_064);
    assert!(world.engines[0].is_empty());
    assert_eq!(empty.try_recv(), Err(TryRecvError::Empty), "the pass of the last is not over");
    world.engines[0].drop_if_empty();
    assert_eq!(empty.try_recv(), Err(TryRecvError::Closed), "the drain is over");
    assert!(late.is_ended() && poll.is_ended());
    let mut retries: Vec<u32> = pipes
        .iter()
        .map(|pipe| {
            let text = pipe.text();
            let last = text.trim_end().rsplit("\n\n").next().unwrap();
            last.strip_prefix("retry: ").unwrap().parse().unwrap()
        })
        .collect();
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 50, "{} different times", retries.len());
}

#[test]
fn a_stream_that_has_caught_up_gets_its_heartbeat_in_time() {
    let mut world = world();
    let pipe = join_and_stop(&mut world, &Ask::stream(&["a"]));
    world.say("a", "1");
    world.settle();
    world.tick(14_000);
    pipe.grant(1);
    world.settle();
    // The look at the time of its heartbeat finds it behind, and waits for a stall at 44 s.
    world.tick(1_100);
    pipe.grant(usize::MAX);
    world.settle();
    let writes = pipe.writes();
    world.tick(15_100);
    assert_eq!(pipe.writes(), writes + 1);
}

#[test]
fn a_channel_created_while_a_pattern_is_listed_is_not_missed() {
    let mut world = world();
    world.say("c", "0");
    let backend = Arc::clone(&world.backend);
    let created = std::thread::spawn(move || {
        for seq in 2..=CREATIONS {
            let name = ChannelName::parse(&format!("c/{seq}")).unwrap();
            let entry = backend.registry().directory().find_or_create(&name, 0).unwrap();
            let position = backend.position(crate::model::Seq(seq));
            let event = Arc::new(crate::model::Event {
                seq: position.seq,
                epoch: position.epoch,
                time_ms: 0,
                accepted_ms: 0,
                channel: name,
                kind: crate::model::EventKind::Published,
                frame: crate::model::Draft::new(&NewEvent::message("created")).finish(position),
            });
            backend.append(&entry, &event);
            backend.commit(event.seq);
            // So slowly that many readers list the channels meanwhile.
            let pause = std::time::Instant::now();
            while pause.elapsed().as_micros() < 150 {
                std::hint::spin_loop();
            }
        }
    });
    let mut at = 1;
    while at < CREATIONS {
        let pipe = join_after(&mut world, &["**"], at);
        while !world.engines[0].is_idle() {
            world.engines[0].serve_ready(9, world.now_ms);
        }
        // What it stands on now, it must have received.
        world.tick(20_000);
        let Ok(Start::At(position)) = Start::parse(&pipe.last_id()) else { panic!() };
        assert_eq!(pipe.events().len() as u64, position.seq.0 - at, "after {at}");
        at = position.seq.0;
        pipe.hang_up();
        world.settle();
    }
    created.join().unwrap();
}

const CREATIONS: u64 = 2_000;
