//! The head of an answer, as far as a client under load needs it.

use memchr::memmem;

use crate::framing::Framing;

/// Status and framing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// Its length, the empty line included.
    pub(crate) bytes: usize,
}

impl Head {
    /// The head that `bytes` begin with: `None` if it has not come whole yet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Result<Self, BadHead>> {
        let end = memmem::find(bytes, b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..end]);
        Some(Self::of(&text, end + 4).ok_or_else(|| BadHead(text.into_owned())))
    }

    /// The first value of a field of the head that `bytes` begin with.
    pub(crate) fn field<'a>(bytes: &'a [u8], name: &str) -> Option<&'a str> {
        let end = memmem::find(bytes, b"\r\n\r\n")?;
        let mut lines = str::from_utf8(&bytes[..end]).ok()?.split("\r\n").skip(1);
        lines.find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn of(text: &str, bytes: usize) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let status_line = lines.next()?;
        let status = status_line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
        if lines.clone().any(|line| !line.contains(':')) {
            return None;
        }
        let framing = Framing::of(status, lines.filter_map(|line| line.split_once(':')))?;
        Some(Self { status, framing, bytes })
    }
}

/// No head of an HTTP/1 answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadHead(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(u16, Framing, usize)> {
        let head = Head::parse(text.as_bytes())?.expect(text);
        Some((head.status, head.framing, head.bytes))
    }

    #[test]
    fn framing_follows_the_fields() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\na: b\r\n\r\nx"), Some((200, Framing::UntilClose, 25)));
        let length = "HTTP/1.1 201 Created\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(parse(length), Some((201, Framing::Length(7), length.len())));
        let empty = "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parse(empty), Some((201, Framing::Ended, empty.len())));
        let chunked = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse(chunked), Some((200, Framing::CHUNKED, chunked.len())));
        assert_eq!(parse("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, Framing::Ended, 27)));
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None);
    }

    #[test]
    fn fields_are_found_by_name() {
        let head = b"HTTP/1.1 200 OK\r\na: 1\r\nLast-Event-ID: e-7 \r\n\r\nlast-event-id: 9";
        assert_eq!(Head::field(head, "last-event-id"), Some("e-7"));
        assert_eq!(Head::field(head, "etag"), None);
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for bad in ["SSH-2.0\r\n\r\n", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nnone\r\n\r\n"] {
            assert!(Head::parse(bad.as_bytes()).is_some_and(|head| head.is_err()), "{bad}");
        }
    }
}
