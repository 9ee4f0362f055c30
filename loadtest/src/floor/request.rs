//! The requests that the floor reads.

use std::io::Read;
use std::net::TcpStream;

/// A request of a subscriber, a poll or a publisher.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) is_stream: bool,
    pub(super) channel: String,
    /// The number of the last event that a poll's client has.
    pub(super) after: Option<u64>,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The next request; `unread` has what came with the one before. `None` at the end.
    pub(super) fn read(io: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Self> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some((request, length)) = Self::parse(unread) {
                unread.drain(..length);
                return Some(request);
            }
            match io.read(&mut chunk) {
                Ok(count) if count > 0 && unread.len() < REQUEST_BYTES_MAX => {
                    unread.extend_from_slice(&chunk[..count]);
                }
                _ => return None,
            }
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head_bytes = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let head = str::from_utf8(&bytes[..head_bytes]).ok()?;
        let mut lines = head.split("\r\n");
        let (method, rest) = lines.next()?.split_once(' ')?;
        let (path, _) = rest.split_once(' ')?;
        let (mut length, mut after) = (0, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            } else if name.eq_ignore_ascii_case("last-event-id") {
                after = Some(value.trim().parse().ok()?);
            }
        }
        let body = bytes.get(head_bytes + 4..head_bytes + 4 + length)?;
        let request = Self {
            is_stream: method == "GET",
            channel: path.trim_start_matches('/').to_owned(),
            after,
            body: body.to_vec(),
        };
        Some((request, head_bytes + 4 + length))
    }

    /// The channel whose next event it waits for.
    pub(super) fn polls(&self) -> Option<&str> {
        self.channel.strip_prefix("poll/").filter(|_| self.is_stream)
    }
}

const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_one_after_the_other_out_of_any_pieces() {
        let text = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
            GET /poll/b HTTP/1.1\r\nLast-Event-ID: 7\r\n\r\n";
        let (first, length) = Request::parse(text).expect("it is whole");
        assert_eq!(
            (first.is_stream, first.channel.as_str(), &first.body[..]),
            (false, "a", &b"abc"[..])
        );
        let (second, rest) = Request::parse(&text[length..]).expect("it is whole");
        assert_eq!((second.polls(), second.after), (Some("b"), Some(7)));
        assert_eq!(length + rest, text.len());
        assert!((0..length).all(|cut| Request::parse(&text[..cut]).is_none()));
    }
}
