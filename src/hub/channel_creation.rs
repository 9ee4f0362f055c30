//! Creates channels within two limits: channels of the hub in all, and new channels a second of
//! each client.
//!
//! A channel is created by its first publish or subscription, and a client may name any number of
//! them.

use std::{sync::Arc, time::Duration};

use super::{
    error::{PublishError, SubscribeError},
    event_rate::Source,
    rate_limits::RateLimits,
};
use crate::{
    backend::{ChannelEntry, DirectoryFull, Registry},
    core::{AddressLimits, Limits, TooFast},
    model::{ChannelName, ClientAddress, Network},
};

/// The client for whom a channel may have to be created.
#[derive(Debug, Clone, Copy)]
pub(super) struct CreatedBy<'a> {
    pub(super) subject: Option<&'a Arc<str>>,
    pub(super) client: Option<ClientAddress>,
}

/// Creates channels and counts them for each client.
#[derive(Debug)]
pub(super) struct ChannelCreator {
    registry: Arc<Registry>,
    per_address: AddressLimits,
    by_address: Option<RateLimits<Network>>,
    by_subject: Option<RateLimits<Arc<str>>>,
}

/// Why a channel cannot be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CreateError {
    /// The hub's limit of channels is reached.
    Full(DirectoryFull),
    /// The client exceeds its rate of new channels, and may retry after this time.
    TooMany(Duration),
}

impl<'a> CreatedBy<'a> {
    pub(super) fn of(source: Option<&'a Source>) -> Self {
        match source {
            Some(Source::Subject(subject)) => Self { subject: Some(subject), client: None },
            Some(Source::Client(client)) => Self { subject: None, client: Some(*client) },
            None => Self { subject: None, client: None },
        }
    }
}

impl ChannelCreator {
    pub(super) fn new(limits: &Limits, registry: Arc<Registry>) -> Self {
        let (address, subject) = (&limits.per_address, &limits.per_subject);
        let by_address =
            RateLimits::new(address.channels_per_s, address.channels_burst, address.rates_max);
        let by_subject =
            RateLimits::new(subject.channels_per_s, subject.channels_burst, subject.rates_max);
        Self { registry, per_address: address.clone(), by_address, by_subject }
    }

    /// Finds a channel, or creates it if the limits allow.
    pub(super) fn find_or_create(
        &self,
        name: &ChannelName,
        created_by: CreatedBy<'_>,
        now_ms: u64,
    ) -> Result<Arc<ChannelEntry>, CreateError> {
        let directory = self.registry.directory();
        if let Some(entry) = directory.find(name) {
            return Ok(entry);
        }
        self.take(created_by)?;
        directory.find_or_create(name, now_ms).map_err(CreateError::Full)
    }

    /// Counts a new channel: for the subject if the token has one, otherwise for the address.
    fn take(&self, created_by: CreatedBy<'_>) -> Result<(), CreateError> {
        let passed = match (created_by.subject, created_by.client) {
            (Some(subject), _) => self.by_subject.as_ref().map(|rates| rates.take(subject, 1)),
            (None, Some(client)) if self.per_address.count(client) => {
                self.by_address.as_ref().map(|rates| rates.take(&client.network(), 1))
            }
            _ => None,
        };
        match passed {
            None | Some(Ok(())) => Ok(()),
            Some(Err(TooFast::Wait(wait))) => Err(CreateError::TooMany(wait)),
            // One is never more than a burst.
            Some(Err(TooFast::Never { .. })) => Err(CreateError::TooMany(Duration::ZERO)),
        }
    }
}

impl From<CreateError> for PublishError {
    fn from(why: CreateError) -> Self {
        match why {
            CreateError::Full(full) => full.into(),
            CreateError::TooMany(wait) => {
                Self::TooManyNewChannels { wait_ms: wait.as_millis() as u64 }
            }
        }
    }
}

impl From<CreateError> for SubscribeError {
    fn from(why: CreateError) -> Self {
        match why {
            CreateError::Full(full) => full.into(),
            CreateError::TooMany(wait) => {
                Self::TooManyNewChannels { wait_ms: wait.as_millis() as u64 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_or_address_creates_channels_at_its_own_rate() {
        let mut limits = Limits::default();
        (limits.per_address.channels_per_s, limits.per_address.channels_burst) = (1, 2);
        (limits.per_subject.channels_per_s, limits.per_subject.channels_burst) = (1, 3);
        let channel_creator = ChannelCreator::new(&limits, Arc::new(Registry::new(&limits)));
        let ann: Arc<str> = "ann".into();
        let at = |ip: &str| {
            let address = std::net::SocketAddr::new(ip.parse().expect("an address"), 1);
            Some(ClientAddress::direct(address))
        };
        let passed = |subject, client, times: usize| {
            (0..times)
                .filter(|_| channel_creator.take(CreatedBy { subject, client }).is_ok())
                .count()
        };
        assert_eq!(passed(None, at("192.0.2.1"), 3), 2, "below, at and above the bound");
        assert_eq!(passed(None, at("192.0.2.2"), 3), 2, "another's is another's");
        assert_eq!(passed(Some(&ann), at("192.0.2.1"), 4), 3, "a subject counts for itself");
        assert_eq!(passed(None, at("127.0.0.1"), 9), 9, "this machine does not count");
        assert_eq!(passed(None, None, 9), 9);
        (limits.per_address.channels_per_s, limits.per_subject.channels_per_s) = (0, 0);
        let none = ChannelCreator::new(&limits, Arc::new(Registry::new(&limits)));
        let created_by = CreatedBy { subject: Some(&ann), client: at("192.0.2.1") };
        assert!((0..9).all(|_| none.take(created_by).is_ok()), "0 is no limit");
    }
}
