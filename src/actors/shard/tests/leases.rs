//! Leases: a connection can be found by its id as soon as its client can know it.

use std::{cell::Cell, io, rc::Rc, sync::Arc};

use bytes::Bytes;

use super::world::{Ask, World};
use crate::{
    actors::{
        lease::{Holder, Lease, Leases},
        peer::{Input, Peer, SlotWaker},
    },
    core::Limits,
};

/// A client that has its fresh token ready, and looks for its connection with the first bytes.
#[derive(Debug)]
struct Hasty {
    id: u64,
    leases: Arc<Leases>,
    found: Rc<Cell<Option<bool>>>,
}

impl Peer for Hasty {
    fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
        if self.found.get().is_none() {
            self.found.set(Some(self.leases.find(self.id).is_some()));
        }
        Ok(bytes.len())
    }

    fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
        Input::Quiet
    }
}

#[test]
fn a_connection_can_be_found_before_its_first_words_are_out() {
    let mut world = World::new(Limits::default(), 1);
    let (leases, found) = (Arc::<Leases>::default(), Rc::default());
    let mut subscriber = world.subscriber(&Ask::stream(&["a"]));
    let id = subscriber.id;
    subscriber.lease = Some(Box::new(Lease::new(id, Holder::default(), &leases)));
    let peer = Hasty { id, leases: Arc::clone(&leases), found: Rc::clone(&found) };
    let now_ms = world.now_ms;
    let key = world.engines[0].attach(subscriber, Box::new(peer), Bytes::new(), None, now_ms);
    assert_eq!(found.get(), Some(true));
    assert_eq!(leases.find(id), Some((0, key)));
}
