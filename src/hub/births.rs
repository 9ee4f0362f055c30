//! Channels that come into being: no more than the hub may have, and each client no more in a second
//! than it may.
//!
//! A channel is born of its first publish or subscription, and anyone may name any number of them.

use std::{sync::Arc, time::Duration};

use super::{
    Hub, PublishError, Source, SubscribeError,
    rates::{Rates, TooFast},
};
use crate::{
    backend::{ChannelEntry, DirectoryFull},
    core::{AddressLimits, Limits},
    model::{ChannelName, ClientAddress, Network},
};

/// Who names a channel that may not be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Creator<'a> {
    pub(super) subject: Option<&'a Arc<str>>,
    pub(super) client: Option<ClientAddress>,
}

/// How many channels each client has brought into being lately.
#[derive(Debug)]
pub(crate) struct Births {
    per_address: AddressLimits,
    by_address: Option<Rates<Network>>,
    by_subject: Option<Rates<Arc<str>>>,
}

/// Why a channel cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unborn {
    /// The hub has as many as it may.
    Full(DirectoryFull),
    /// Its creator has to wait.
    TooMany(Duration),
}

impl<'a> Creator<'a> {
    pub(super) fn of(source: Option<&'a Source>) -> Self {
        match source {
            Some(Source::Subject(subject)) => Self { subject: Some(subject), client: None },
            Some(Source::Client(client)) => Self { subject: None, client: Some(*client) },
            None => Self { subject: None, client: None },
        }
    }
}

impl Births {
    pub(super) fn new(limits: &Limits) -> Self {
        let (address, subject) = (&limits.per_address, &limits.per_subject);
        let by_address =
            Rates::new(address.channels_per_s, address.channels_burst, address.rates_max);
        let by_subject =
            Rates::new(subject.channels_per_s, subject.channels_burst, subject.rates_max);
        Self { per_address: address.clone(), by_address, by_subject }
    }

    /// Lets one more pass. Under a token with a subject it counts for that alone, as events do.
    fn take(&self, creator: Creator<'_>) -> Result<(), Unborn> {
        let passed = match (creator.subject, creator.client) {
            (Some(subject), _) => self.by_subject.as_ref().map(|rates| rates.take(subject, 1)),
            (None, Some(client)) if self.per_address.count(client) => {
                self.by_address.as_ref().map(|rates| rates.take(&client.network(), 1))
            }
            _ => None,
        };
        match passed {
            None | Some(Ok(())) => Ok(()),
            Some(Err(TooFast::Wait(wait))) => Err(Unborn::TooMany(wait)),
            // One is never more than a burst.
            Some(Err(TooFast::Never { .. })) => Err(Unborn::TooMany(Duration::ZERO)),
        }
    }
}

impl Hub {
    /// A channel, born now if need be and if it may be.
    pub(super) fn find_or_create(
        &self,
        name: &ChannelName,
        creator: Creator<'_>,
        now_ms: u64,
    ) -> Result<Arc<ChannelEntry>, Unborn> {
        let directory = self.shared.backend.directory();
        if let Some(entry) = directory.find(name) {
            return Ok(entry);
        }
        self.births.take(creator)?;
        directory.find_or_create(name, now_ms).map_err(Unborn::Full)
    }
}

impl From<Unborn> for PublishError {
    fn from(why: Unborn) -> Self {
        match why {
            Unborn::Full(full) => full.into(),
            Unborn::TooMany(wait) => Self::TooManyNewChannels { wait_ms: wait.as_millis() as u64 },
        }
    }
}

impl From<Unborn> for SubscribeError {
    fn from(why: Unborn) -> Self {
        match why {
            Unborn::Full(full) => full.into(),
            Unborn::TooMany(wait) => Self::TooManyNewChannels { wait_ms: wait.as_millis() as u64 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_born_of_each_subject_or_address_at_a_rate_of_its_own() {
        let mut limits = Limits::default();
        (limits.per_address.channels_per_s, limits.per_address.channels_burst) = (1, 2);
        (limits.per_subject.channels_per_s, limits.per_subject.channels_burst) = (1, 3);
        let births = Births::new(&limits);
        let ann: Arc<str> = "ann".into();
        let at = |ip: &str| {
            let address = std::net::SocketAddr::new(ip.parse().expect("an address"), 1);
            Some(ClientAddress::direct(address))
        };
        let passed = |subject, client, times: usize| {
            (0..times).filter(|_| births.take(Creator { subject, client }).is_ok()).count()
        };
        assert_eq!(passed(None, at("192.0.2.1"), 3), 2, "below, at and above the bound");
        assert_eq!(passed(None, at("192.0.2.2"), 3), 2, "another's is another's");
        assert_eq!(passed(Some(&ann), at("192.0.2.1"), 4), 3, "a subject counts for itself");
        assert_eq!(passed(None, at("127.0.0.1"), 9), 9, "this machine does not count");
        assert_eq!(passed(None, None, 9), 9);
        let none = Births::new(&{
            (limits.per_address.channels_per_s, limits.per_subject.channels_per_s) = (0, 0);
            limits
        });
        let creator = Creator { subject: Some(&ann), client: at("192.0.2.1") };
        assert!((0..9).all(|_| none.take(creator).is_ok()), "0 is no limit");
    }
}
