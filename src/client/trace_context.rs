//! The trace of a program, passed on to the hub. Source: W3C Trace Context, Level 1.

use http::{HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

/// The span of a program that its publishes belong to, as `traceparent` and `tracestate` write it.
///
/// It is sent as it is: the client has no span of its own. The hub's spans of a publish become
/// children of the program's, if the flag says that it is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

/// A text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is not a traceparent of the form 00-TRACE-SPAN-FLAGS, in lower-case hexadecimal")]
pub struct TraceContextError;

impl TraceContext {
    /// Reads a `traceparent` (section 3.2). One of a later version may be longer, up to 512 bytes.
    ///
    /// # Errors
    /// It is malformed or longer, or an id in it is all zeros. W3C Trace Context has programs
    /// ignore such a value, and `tracestate` with it.
    pub fn parse(traceparent: &str) -> Result<Self, TraceContextError> {
        let mut parts = traceparent.splitn(5, '-');
        let mut hexadecimal = |digits: usize| {
            let part = parts.next()?;
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (part.len() == digits && part.bytes().all(is_digit)).then_some(part)
        };
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        let (Some(version), Some(trace), Some(span), Some(_flags)) =
            (hexadecimal(2), hexadecimal(32), hexadecimal(16), hexadecimal(2))
        else {
            return Err(TraceContextError);
        };
        let has_more = parts.next().is_some();
        if traceparent.len() > FIELD_BYTES_MAX {
            return Err(TraceContextError);
        }
        if version == "ff" || (version == "00" && has_more) || is_zero(trace) || is_zero(span) {
            return Err(TraceContextError);
        }
        let parent = HeaderValue::from_str(traceparent).map_err(|_| TraceContextError)?;
        Ok(Self { parent, state: None })
    }

    /// Adds a `tracestate` (section 3.3): what other tracing systems pass along. One that is empty,
    /// has more than 512 bytes, or is not a list of `key=value`, is left out, and the `traceparent`
    /// counts.
    pub fn with_state(mut self, tracestate: &str) -> Self {
        let mut members =
            tracestate.split(',').map(str::trim).filter(|member| !member.is_empty()).peekable();
        let is_list = members.peek().is_some()
            && members.all(|member| member.split_once('=').is_some_and(|(key, _)| !key.is_empty()));
        let is_short = tracestate.len() <= FIELD_BYTES_MAX;
        self.state =
            (is_list && is_short).then(|| HeaderValue::from_str(tracestate).ok()).flatten();
        self
    }

    /// Adds the fields to a request.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// What a hub takes of a `tracestate`, and what vendors pass on at least. A longer field could make
/// the head of a request too large, and the publish would fail for its trace.
const FIELD_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn fields(context: &TraceContext) -> (Option<String>, Option<String>) {
        let mut headers = HeaderMap::new();
        context.mark(&mut headers);
        let field = |name| headers.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
        (field("traceparent"), field("tracestate"))
    }

    #[test]
    fn a_traceparent_is_passed_on_as_it_is_or_refused() {
        let later = GOOD.replacen("00", "01", 1) + "-what-comes";
        let of_bytes = |bytes: usize| format!("{later:-<bytes$}");
        for good in [GOOD, &GOOD.replace("-01", "-00"), &later, &of_bytes(512)] {
            let context = TraceContext::parse(good).expect("it is good");
            assert_eq!(fields(&context), (Some(good.to_owned()), None));
        }
        for bad in [
            "",
            "garbage",
            &GOOD[..54],
            &format!("{GOOD}0"),
            &format!("{GOOD}-more"),
            &format!("{GOOD}\n"),
            &format!("{later}\n"),
            &of_bytes(513),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("-b7", "_b7"),
        ] {
            assert_eq!(TraceContext::parse(bad), Err(TraceContextError), "{bad}");
        }
    }

    #[test]
    fn a_tracestate_that_is_not_a_list_is_left_out() {
        let state = |state: &str| {
            fields(&TraceContext::parse(GOOD).expect("it is good").with_state(state)).1
        };
        for good in ["rojo=1", "rojo=1,congo=t61rcWkgMzE", "a=1 , b=2"] {
            assert_eq!(state(good).as_deref(), Some(good));
        }
        for bad in ["", " ", ",", "a", "a=1,b", "=1", "a=1\r\nx: y", "a=ä\n"] {
            assert_eq!(state(bad), None, "{bad}");
        }
        let of_bytes = |bytes: usize| format!("{:x<bytes$}", "a=1,b=");
        assert_eq!(state(&of_bytes(512)), Some(of_bytes(512)));
        assert_eq!(state(&of_bytes(513)), None);
    }
}
