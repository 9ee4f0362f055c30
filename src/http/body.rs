//! Reads the whole body of a request, within limits.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use smallvec::SmallVec;
use tokio::{
    sync::Semaphore,
    task::yield_now,
    time::{Instant, timeout_at},
};

use super::{Problem, state::HttpState};
use crate::hub::BodyPermit;

/// Reads a whole body as text, within the limits on its size, its time, the number of its pieces,
/// and the memory of all bodies. The permit must be held until the publish is answered. A body of
/// lines may come in more pieces: [`PIECES_PER_LINE`] for each of its first `lines_max` lines.
pub(super) async fn read_body(
    state: &HttpState,
    headers: &HeaderMap,
    mut body: axum::body::Body,
    lines_max: usize,
) -> Result<(String, BodyPermit), Problem> {
    check_codings(headers)?;
    let bytes_max = state.hub.limits().publish.body_bytes_max;
    let too_large = || {
        let detail = format!("a body has at most {bytes_max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            .with("field", "body")
            .with("bytes_max", bytes_max)
            .limit_exceeded("body_too_large")
            .closing()
    };
    // If the announced length exceeds the limit, the body is not read, and no `100 Continue` is
    // sent.
    if body.size_hint().lower() > bytes_max {
        return Err(too_large());
    }
    let mut permit = state.hub.reserve_body(body.size_hint().exact());
    let wait = Duration::from_secs(state.settings.body_read_timeout_s.into());
    let too_slow = |_| {
        let detail = format!("the body did not come within {} s", wait.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).limit_exceeded("slow_body").closing()
    };
    let mut until = Instant::now() + wait;
    let (mut bytes, mut pieces, mut lines) = (Gathered::default(), 0, 0);
    while let Some(frame) = timeout_at(until, body.frame()).await.map_err(too_slow)? {
        let frame = frame.map_err(|_| Problem::field("body", "the body broke off").closing())?;
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len + data.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        // Memory is reserved for bytes that have arrived, not for the announced length: the
        // announcement costs the client nothing.
        permit.grow(data.len()).await.map_err(|error| Problem::from(error).closing())?;
        bytes.add(&data);
        if lines < lines_max {
            lines = lines_max.min(lines + data.iter().filter(|&&byte| byte == b'\n').count());
        }
        drop(data);
        pieces += 1;
        if pieces > PIECES_ALWAYS + bytes.len / PIECE_BYTES_MIN + PIECES_PER_LINE * lines {
            let detail = "the body comes in too many small chunks";
            return Err(Problem::field("body", detail).limit_exceeded("too_many_pieces").closing());
        }
        if !body.is_end_stream() {
            let begun = Instant::now();
            yield_to_others(bytes.len as u64 + body.size_hint().lower()).await;
            // Time that passes here is not the client's, so it does not count.
            until += begun.elapsed();
        }
    }
    let text = String::from_utf8(bytes.into_bytes());
    let text = text.map_err(|_| Problem::field("body", "the data must be UTF-8"))?;
    Ok((text, permit))
}

/// Rejects content and transfer codings other than `chunked`, which the hub does not decode.
fn check_codings(headers: &HeaderMap) -> Result<(), Problem> {
    // hyper accepts any list of codings that ends with `chunked` (RFC 9112, section 6.1). A proxy
    // may read what is not exactly that word in another way, and send a request in what it takes
    // for the body.
    let mut transfer = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = transfer.next().is_none_or(|value| is_word(value.as_bytes(), b"chunked"));
    if !is_chunked || transfer.next().is_some() {
        let detail = "no `Transfer-Encoding` but `chunked` is decoded";
        let problem = Problem::new(StatusCode::NOT_IMPLEMENTED, detail);
        return Err(problem.with("field", "Transfer-Encoding").closing());
    }
    // The list may have empty members (RFC 9110, section 5.6.1.2).
    let content = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut content = content.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    if !content.all(|coding| coding.trim_ascii().is_empty() || is_word(coding, b"identity")) {
        let detail = "no `Content-Encoding` is decoded: send the data as it is";
        let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail);
        return Err(problem.with("field", "Content-Encoding").closing());
    }
    Ok(())
}

/// Whether a field or a member of a list is this word, in any case.
fn is_word(text: &[u8], word: &[u8]) -> bool {
    text.trim_ascii().eq_ignore_ascii_case(word)
}

/// Yields to other tasks before more of a body is read, of which `bytes` are known: a client can
/// send a megabyte without a pause. On each thread at most [`LARGE_BODIES_MAX`] large bodies
/// continue at a time. Otherwise a small request would wait until hundreds of large ones have each
/// read a piece.
async fn yield_to_others(bytes: u64) {
    let permit = match bytes {
        0..=SMALL_BYTES_MAX => None,
        _ => LARGE_BODIES.with(Arc::clone).acquire_owned().await.ok(),
    };
    yield_now().await;
    drop(permit);
}

thread_local! {
    /// Permits to read a piece of a large body, of this thread.
    static LARGE_BODIES: Arc<Semaphore> = Arc::new(Semaphore::new(LARGE_BODIES_MAX));
}

/// The bytes of a body received so far, in segments, which are joined when the body is whole. A
/// vector that grows by reallocation would fragment the heap. The unused capacity is at most the
/// bytes received, and at most 64 KiB.
#[derive(Default)]
struct Gathered {
    segments: SmallVec<[Vec<u8>; 1]>,
    len: usize,
}

impl Gathered {
    fn add(&mut self, mut data: &[u8]) {
        if let Some(last) = self.segments.last_mut() {
            let (fits, rest) = data.split_at(data.len().min(last.capacity() - last.len()));
            last.extend_from_slice(fits);
            self.len += fits.len();
            data = rest;
        }
        if !data.is_empty() {
            // Most bodies arrive in one piece and need exactly one segment of their size.
            let mut segment = Vec::with_capacity(self.len.min(SEGMENT_BYTES).max(data.len()));
            segment.extend_from_slice(data);
            self.segments.push(segment);
            self.len += data.len();
        }
    }

    fn into_bytes(mut self) -> Vec<u8> {
        match self.segments.len() {
            0 | 1 => self.segments.pop().unwrap_or_default(),
            _ => self.segments.concat(),
        }
    }
}

/// Pieces in which any body may arrive, and the bytes of body that each further piece needs. A
/// chunk of one byte costs its sender six bytes and the hub a microsecond: ten megabytes a second
/// of such chunks would occupy a core.
const PIECES_ALWAYS: usize = 1_024;
const PIECE_BYTES_MIN: usize = 64;
/// Further pieces for each line of a batch: programs often write each line, and even its end, by
/// itself.
const PIECES_PER_LINE: usize = 4;
/// Large bodies that continue to be read at a time, on one thread.
const LARGE_BODIES_MAX: usize = 2;
/// The most bytes of a small body.
const SMALL_BYTES_MAX: u64 = 8 * 1024;
/// Size of a segment for a body that arrives in many pieces.
const SEGMENT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll, ready},
    };

    use axum::body::{Body, Bytes};
    use http_body::Frame;
    use tokio::time::{Sleep, sleep};

    use super::*;
    use crate::{http::HttpSettings, hub::Hub};

    /// A body whose pieces come after a pause each.
    struct Pieces {
        rest: VecDeque<(Duration, String)>,
        pausing: Option<Pin<Box<Sleep>>>,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(&(pause, _)) = self.rest.front() else { return Poll::Ready(None) };
            let pausing = self.pausing.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(pausing.as_mut().poll(context));
            self.pausing = None;
            let piece = self.rest.pop_front();
            Poll::Ready(piece.map(|(_, data)| Ok(Frame::data(data.into()))))
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn few_large_bodies_are_read_at_a_time_and_small_ones_do_not_wait() {
        let large: Vec<_> =
            (0..=LARGE_BODIES_MAX).map(|_| tokio::spawn(yield_to_others(10_000))).collect();
        let small = tokio::spawn(yield_to_others(8_192));
        let over = || large.iter().filter(|task| task.is_finished()).count();
        yield_now().await;
        assert_eq!((over(), small.is_finished()), (0, false));
        yield_now().await;
        assert_eq!((over(), small.is_finished()), (LARGE_BODIES_MAX, true));
        while over() <= LARGE_BODIES_MAX {
            yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_permit_is_not_the_clients_time() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let state = HttpState::new(hub, HttpSettings::default(), None);
        let wait = Duration::from_secs(state.settings.body_read_timeout_s.into());
        for (pause, is_in_time) in [(wait - SECOND, true), (wait + SECOND, false)] {
            let pieces = Pieces {
                rest: [(Duration::ZERO, "x".repeat(10_000)), (pause, "rest".into())].into(),
                pausing: None,
            };
            let (permits, headers) = (LARGE_BODIES.with(Arc::clone), HeaderMap::new());
            let taken =
                permits.acquire_many(LARGE_BODIES_MAX as u32).await.expect("it is never closed");
            let reading = read_body(&state, &headers, Body::new(pieces), 0);
            let others = async {
                sleep(2 * wait).await;
                drop(taken);
            };
            let (read, ()) = tokio::join!(reading, others);
            assert_eq!(read.map(|(text, _)| text.len()).ok(), is_in_time.then_some(10_004));
        }
    }

    #[test]
    fn a_body_is_what_came_and_has_little_more_room_than_that() {
        for piece in [1, 7, 1_000, 30_000, 200_000] {
            let body: Vec<u8> = (0..500_000_usize).map(|n| (n % 251) as u8).collect();
            let mut gathered = Gathered::default();
            for data in body.chunks(piece) {
                gathered.add(data);
                let room: usize = gathered.segments.iter().map(Vec::capacity).sum();
                assert!(room <= gathered.len + gathered.len.min(SEGMENT_BYTES), "{piece}: {room}");
            }
            assert_eq!(gathered.into_bytes(), body);
        }
    }

    #[test]
    fn a_body_that_comes_at_once_is_copied_once() {
        let mut gathered = Gathered::default();
        gathered.add(b"hello");
        let at = gathered.segments[0].as_ptr();
        let bytes = gathered.into_bytes();
        assert_eq!((bytes.as_ptr(), bytes.capacity()), (at, 5));
        assert_eq!(Gathered::default().into_bytes(), b"");
    }
}
