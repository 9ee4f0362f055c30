//! The identity of a request: its subject and permissions.

use std::sync::Arc;

use super::{Claims, PatternTemplate, TemplateError, TokenError, containment::contains};
use crate::{
    core::Subscription,
    model::{ChannelName, ChannelPattern},
};

/// The identity of a request: subject, permissions and expiry, as its token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    kind: Kind,
    subject: Option<Arc<str>>,
    publish: Vec<ChannelPattern>,
    subscribe: Vec<ChannelPattern>,
    admin: bool,
    expires_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unrestricted,
    Anonymous,
    Holder,
}

impl Identity {
    /// The identity of every request to a hub without authentication. It may do everything.
    pub fn unrestricted() -> Self {
        Self {
            kind: Kind::Unrestricted,
            subject: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            admin: true,
            expires_ms: None,
        }
    }

    /// The identity of a request without a token. It may subscribe to these channels, and nothing
    /// else.
    pub fn anonymous(subscribe: Vec<ChannelPattern>) -> Self {
        Self { kind: Kind::Anonymous, subscribe, admin: false, ..Self::unrestricted() }
    }

    /// The identity of the holder of a token with these claims. The holder may also subscribe to
    /// what anonymous clients may (`for_all`).
    ///
    /// # Errors
    /// A pattern that does not parse, or a subject that cannot be inserted for `{sub}`.
    pub fn of_claims(claims: &Claims, for_all: &[PatternTemplate]) -> Result<Self, TokenError> {
        let subject = claims.sub.as_deref();
        let fill = |texts: &[String]| {
            let filled = texts.iter().map(|text| PatternTemplate::parse(text)?.fill(subject));
            filled.collect::<Result<Vec<_>, TemplateError>>().map_err(TokenError::Pattern)
        };
        let grants = claims.visnyk.as_ref();
        let mut subscribe = fill(grants.map_or(&[], |grants| &grants.subscribe))?;
        // A subject that cannot be inserted into a pattern of the settings is not refused: only the
        // pattern does not apply.
        subscribe.extend(for_all.iter().filter_map(|template| template.fill(subject).ok()));
        Ok(Self {
            kind: Kind::Holder,
            subject: claims.sub.as_deref().map(Arc::from),
            publish: fill(grants.map_or(&[], |grants| &grants.publish))?,
            subscribe,
            admin: grants.is_some_and(|grants| grants.admin),
            expires_ms: claims.expires_ms(),
        })
    }

    /// The subject.
    pub fn subject(&self) -> Option<&Arc<str>> {
        self.subject.as_ref()
    }

    /// Whether the request had no token, on a hub with authentication.
    pub fn is_anonymous(&self) -> bool {
        self.kind == Kind::Anonymous
    }

    /// Whether the hub has no authentication.
    pub fn is_unrestricted(&self) -> bool {
        self.kind == Kind::Unrestricted
    }

    /// Whether the hub may be administered: close channels, read about all channels and
    /// connections.
    pub fn is_admin(&self) -> bool {
        self.admin
    }

    /// When the token expires, in milliseconds since 1970.
    pub fn expires_ms(&self) -> Option<u64> {
        self.expires_ms
    }

    /// Whether events may be published to a channel.
    pub fn may_publish(&self, channel: &ChannelName) -> bool {
        self.is_unrestricted() || self.publish.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether a channel may be subscribed to, and so also be read about.
    pub fn may_subscribe(&self, channel: &ChannelName) -> bool {
        self.is_unrestricted() || self.subscribe.iter().any(|pattern| pattern.matches(channel))
    }

    /// Whether a whole pattern may be subscribed to. A single granted pattern has to contain it.
    pub fn may_subscribe_all(&self, pattern: &ChannelPattern) -> bool {
        self.is_unrestricted() || self.subscribe.iter().any(|granted| contains(granted, pattern))
    }

    /// The first channel or pattern of a subscription that is not allowed.
    pub fn refused_of<'a>(&self, subscription: &'a Subscription) -> Option<&'a str> {
        let name = subscription.names().iter().find(|name| !self.may_subscribe(name));
        name.map(ChannelName::as_str).or_else(|| {
            let refused = |pattern: &&ChannelPattern| !self.may_subscribe_all(pattern);
            subscription.patterns().iter().find(refused).map(ChannelPattern::as_str)
        })
    }

    /// Patterns of channels that may be published to.
    pub fn publish(&self) -> &[ChannelPattern] {
        &self.publish
    }

    /// Patterns of channels that may be subscribed to.
    pub fn subscribe(&self) -> &[ChannelPattern] {
        &self.subscribe
    }

    /// The prefix that separates this subject's idempotency keys from those of all others. It has
    /// the subject's length, so that no subject can be chosen that gives the prefix of another.
    pub fn scope(&self) -> String {
        match (&self.kind, &self.subject) {
            (Kind::Holder, Some(subject)) => format!("subject {}:{subject}", subject.len()),
            (Kind::Holder, None) => "no subject".to_owned(),
            _ => "anonymous".to_owned(),
        }
    }
}
