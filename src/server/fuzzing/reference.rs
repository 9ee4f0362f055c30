//! A second parser of HTTP/1.1 (RFC 9112), simple and slow: it finds where requests and answers
//! begin and end. Where the standard allows leniency it is as lenient as the server, so a request
//! that the server accepts and this parser does not is a finding.

/// A request in the bytes that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    /// Whether its body is complete.
    pub(super) is_whole: bool,
    /// Whether its head announces a body.
    pub(super) has_body: bool,
}

/// What follows the last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing.
    Nothing,
    /// The beginning of a head.
    Unfinished,
    /// Malformed bytes.
    Malformed,
}

/// The requests in the bytes that a client sent, up to the first that is malformed or incomplete.
pub(super) fn requests(mut bytes: &[u8]) -> (Vec<Request>, Tail) {
    let mut requests = Vec::new();
    loop {
        // Empty lines before a request line are skipped (section 2.2).
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
        if bytes.is_empty() {
            return (requests, Tail::Nothing);
        }
        let (head, rest) = match head(bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return (requests, Tail::Unfinished),
            Err(Malformed) => return (requests, Tail::Malformed),
        };
        let [method, target, _] = &head.first[..] else { return (requests, Tail::Malformed) };
        let Ok(framing) = head.framing() else { return (requests, Tail::Malformed) };
        let left = match framing {
            Framing::Length(length) => {
                usize::try_from(length).ok().and_then(|length| rest.get(length..)).ok_or(true)
            }
            Framing::Chunks => match chunks(rest) {
                Ok(Some(rest)) => Ok(rest),
                Ok(None) => Err(true),
                Err(Malformed) => Err(false),
            },
        };
        requests.push(Request {
            method: method.clone(),
            target: target.clone(),
            is_whole: left.is_ok(),
            has_body: framing != Framing::Length(0),
        });
        match left {
            Ok(rest) => bytes = rest,
            Err(true) => return (requests, Tail::Nothing),
            Err(false) => return (requests, Tail::Malformed),
        }
    }
}

/// An answer as the server sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether nothing may follow.
    pub(super) is_last: bool,
}

impl Answer {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// The answer that `bytes` begin with, to a request of that method; `None` if it is cut short.
    /// Interim answers (1xx) before it are skipped.
    pub(super) fn read<'a>(
        bytes: &'a [u8],
        method: &str,
    ) -> Result<Option<(Self, &'a [u8])>, Malformed> {
        let Some((head, mut rest)) = head(bytes)? else { return Ok(None) };
        let [version, status, _] = &head.first[..] else { return Err(Malformed) };
        if !matches!(version.as_str(), "HTTP/1.1" | "HTTP/1.0") || status.len() != 3 {
            return Err(Malformed);
        }
        let status: u16 = status.parse().map_err(|_| Malformed)?;
        if status < 200 {
            return Self::read(rest, method);
        }
        let has_length = head.values("content-length").next().is_some();
        let is_chunked = head.values("transfer-encoding").next().is_some();
        if has_length && is_chunked {
            return Err(Malformed);
        }
        let says = |option: &str| {
            let mut options = head.values("connection").flat_map(|value| value.split(','));
            options.any(|said| said.trim().eq_ignore_ascii_case(option))
        };
        let is_old = version == "HTTP/1.0";
        let mut is_last = says("close") || (is_old && !says("keep-alive"));
        let before = rest;
        let mut body = Vec::new();
        if method == "HEAD" || matches!(status, 204 | 304) {
        } else if has_length || is_chunked {
            match head.framing()? {
                Framing::Length(length) => {
                    let Some(body_bytes) = rest.get(..length as usize) else { return Ok(None) };
                    body = body_bytes.to_vec();
                    rest = &rest[length as usize..];
                }
                Framing::Chunks => {
                    let is_stream = head.values("content-type").any(|t| t.contains("event-stream"));
                    let after = match chunks(rest)? {
                        Some(after) => after,
                        // A stream after which the client should reconnect has no last chunk.
                        None if is_stream => {
                            is_last = true;
                            &[]
                        }
                        None => return Ok(None),
                    };
                    body = before[..before.len() - after.len()].to_vec();
                    rest = after;
                }
            }
        } else {
            is_last = true;
            body = rest.to_vec();
            rest = &[];
        }
        Ok(Some((Self { status, fields: head.fields, body, is_last }, rest)))
    }
}

/// Bytes that are not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunks,
}

struct Head {
    /// The three words of the first line.
    first: Vec<String>,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// Section 6.3. `Transfer-Encoding` overrides `Content-Length`; repeated lengths must be equal.
    fn framing(&self) -> Result<Framing, Malformed> {
        let codings: Vec<&str> =
            self.values("transfer-encoding").flat_map(|value| value.split(',')).collect();
        if let Some(last) = codings.last() {
            let is_old = self.first[2] == "HTTP/1.0";
            let is_chunked = last.trim().eq_ignore_ascii_case("chunked");
            return if is_chunked && !is_old { Ok(Framing::Chunks) } else { Err(Malformed) };
        }
        let mut length = None;
        for value in self.values("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let value: u64 = value.parse().ok().filter(|_| digits).ok_or(Malformed)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(Malformed);
            }
        }
        Ok(Framing::Length(length.unwrap_or(0)))
    }
}

/// A head, and what follows it; `None` if it has no end.
fn head(bytes: &[u8]) -> Result<Option<(Head, &[u8])>, Malformed> {
    let mut rest = bytes;
    let mut lines = Vec::new();
    loop {
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.contains(&b'\r') || line.contains(&0) {
            return Err(Malformed);
        }
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let Some((first, lines)) = lines.split_first() else { return Err(Malformed) };
    let first: Vec<String> =
        first.splitn(3, |&byte| byte == b' ').map(|w| String::from_utf8_lossy(w).into()).collect();
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_token =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(is_token) {
            return Err(Malformed);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, String::from_utf8_lossy(value).into_owned()));
    }
    Ok(Some((Head { first, fields }, rest)))
}

/// What follows a chunked body (section 7.1); `None` if it has no end.
fn chunks(mut bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    loop {
        let Some((line, rest)) = line(bytes)? else { return Ok(None) };
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let digits = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
        let size = std::str::from_utf8(size).ok().filter(|_| digits);
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok()).ok_or(Malformed)?;
        bytes = rest;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(|_| Malformed)?;
        let Some(rest) = bytes.get(size..) else { return Ok(None) };
        match rest {
            [b'\r', b'\n', rest @ ..] => bytes = rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(Malformed),
        }
    }
    loop {
        let Some((line, rest)) = line(bytes)? else { return Ok(None) };
        bytes = rest;
        if line.is_empty() {
            return Ok(Some(bytes));
        }
    }
}

/// A line without its end, and what follows it.
type Line<'a> = (&'a [u8], &'a [u8]);

fn line(bytes: &[u8]) -> Result<Option<Line<'_>>, Malformed> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Malformed)?;
    Ok(Some((line, &bytes[end + 1..])))
}
