//! The answers of one round to many polls.

use std::{
    cell::RefCell,
    io,
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;

use super::world::{Ask, World};
use crate::{
    actors::{
        Socket, SocketAddrs, Tcp,
        peer::{Input, Peer, SlotWaker},
        subscriber::{Admission, Form, PollTicket},
    },
    core::Limits,
    model::{EnvelopeAnswers, PollReply, Start},
};

/// A client that takes everything, and whose socket goes on after its answer.
#[derive(Debug)]
struct Client {
    answers: Rc<RefCell<Vec<Bytes>>>,
    io: Tcp,
}

impl Peer for Client {
    fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        self.answers.borrow_mut().push(bytes.clone());
        Ok(bytes.len())
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }

    fn into_socket(self: Box<Self>) -> Option<(Socket, Bytes)> {
        Some((self.io.into(), Bytes::new()))
    }
}

/// Polls of one channel whose header lines are these.
fn waiting(header_lines: &[&'static str]) -> (World, Rc<RefCell<Vec<Bytes>>>) {
    let tickets = header_lines.iter().map(|lines| ticket(lines, render));
    waiting_with(tickets, &Arc::default())
}

/// Polls of one channel with these tickets, counted among `connections`.
fn waiting_with(
    tickets: impl IntoIterator<Item = PollTicket>,
    connections: &Arc<AtomicU32>,
) -> (World, Rc<RefCell<Vec<Bytes>>>) {
    let mut world = World::new(Limits::default(), 1);
    let answers = Rc::default();
    for ticket in tickets {
        attach(&mut world, ticket, Start::Now, &answers, connections);
    }
    (world, answers)
}

fn attach(
    world: &mut World,
    ticket: PollTicket,
    start: Start,
    answers: &Rc<RefCell<Vec<Bytes>>>,
    connections: &Arc<AtomicU32>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    let io = TcpStream::connect(local).unwrap();
    let io = Tcp::unregistered(io, SocketAddrs { local, peer: local });
    let client = Box::new(Client { answers: Rc::clone(answers), io });
    let form = Form::Poll { encoding: &EnvelopeAnswers, limit: 10 };
    let mut subscriber = world.subscriber(&Ask { form, start, ..Ask::stream(&["a"]) });
    subscriber.admission = Admission::take(connections, u32::MAX).unwrap();
    let now_ms = world.now_ms;
    world.engines[0].attach(subscriber, client, Bytes::new(), Some(ticket), now_ms);
}

fn ticket(lines: &'static str, render: Render) -> PollTicket {
    let header_lines = Bytes::from_static(lines.as_bytes());
    PollTicket { header_lines, keep_alive: true, render, record: None }
}

fn render(reply: &PollReply, ticket: &PollTicket) -> Bytes {
    [&ticket.header_lines[..], &reply.body[..]].concat().into()
}

fn render_keep_alive(_: &PollReply, ticket: &PollTicket) -> Bytes {
    Bytes::from_static(if ticket.keep_alive { b"keep-alive" } else { b"close" })
}

fn render_otherwise(reply: &PollReply, _: &PollTicket) -> Bytes {
    [b"otherwise", &reply.body[..]].concat().into()
}

type Render = fn(&PollReply, &PollTicket) -> Bytes;

#[test]
fn sockets_go_on_when_all_of_their_round_are_answered() {
    let connections = Arc::default();
    let tickets = (0..7).map(|_| ticket("a", render));
    let (mut world, answers) = waiting_with(tickets, &connections);
    world.say("a", "x");
    world.push_batch(0);
    let now_ms = world.now_ms;
    let engine = &mut world.engines[0];
    let mut passes = 0;
    while answers.borrow().len() < 7 {
        assert!(engine.take_returned().is_empty(), "others wait for their answers");
        engine.work(now_ms);
        passes += 1;
    }
    assert!(passes > 1, "a round of one pass shows nothing");
    let finished = engine.take_returned();
    assert_eq!(finished.len(), 7);
    assert_eq!(connections.load(Ordering::Acquire), 7, "until they count as something else");
    drop(finished);
    assert_eq!(connections.load(Ordering::Acquire), 0);
}

#[test]
fn equal_answers_are_the_same_bytes_and_others_are_not() {
    let lines = ["a", "a", "b", "b", "a"];
    let (mut world, answers) = waiting(&lines);
    world.say("a", "x");
    world.settle();
    let answers = answers.borrow();
    let mut written: Vec<&str> =
        answers.iter().map(|bytes| std::str::from_utf8(&bytes[..1]).unwrap()).collect();
    let at = |index: usize| answers[index].as_ptr();
    for index in 1..lines.len() {
        let is_equal = written[index] == written[index - 1];
        assert_eq!(at(index) == at(index - 1), is_equal, "{index}: {written:?}");
    }
    written.sort_unstable();
    assert_eq!(written, ["a", "a", "a", "b", "b"]);
}

#[test]
fn each_front_door_renders_its_own_answers() {
    let (mut world, answers) =
        waiting_with([ticket("a", render), ticket("a", render_otherwise)], &Arc::default());
    world.say("a", "x");
    world.settle();
    let answers = answers.borrow();
    let otherwise = answers.iter().filter(|bytes| bytes.starts_with(b"otherwise")).count();
    assert_eq!((answers.len(), otherwise), (2, 1));
}

#[test]
fn a_large_answer_is_each_clients_own() {
    for (bytes, is_shared) in [(7_000, true), (9_000, false)] {
        let (mut world, answers) = waiting(&["a", "a"]);
        world.say("a", &"x".repeat(bytes));
        world.settle();
        let answers = answers.borrow();
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0].as_ptr() == answers[1].as_ptr(), is_shared, "{bytes}");
    }
}

#[test]
fn answers_during_a_drain_say_that_their_connection_closes() {
    let connections = Arc::default();
    let polls = (0..10).map(|_| ticket("a", render_keep_alive));
    let (mut world, answers) = waiting_with(polls, &connections);
    // No connection has its time yet: that takes steps, of which none is made here.
    world.engines[0].drain(10_000, world.now_ms);
    world.say("a", "x");
    world.settle();
    // One that comes now is answered at once.
    attach(&mut world, ticket("a", render_keep_alive), Start::Earliest, &answers, &connections);
    world.settle();
    assert!(answers.borrow().len() == 11, "{answers:?}");
    assert!(answers.borrow().iter().all(|answer| answer == "close"), "{answers:?}");
}
