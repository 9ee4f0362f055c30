//! Serves the console and the browser client, which are embedded in the binary.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{security_headers::CROSS_ORIGIN_RESOURCE_POLICY, weighted_list::weighted_names};

pub(super) fn page(request: &HeaderMap) -> Response {
    PAGE.answer(request)
}

/// A file of the console, by its name.
pub(super) fn file(name: &str, request: &HeaderMap) -> Option<Response> {
    let (_, file) = FILES.iter().find(|(own, _)| *own == name)?;
    Some(file.answer(request))
}

pub(super) fn icon(request: &HeaderMap) -> Response {
    ICON.answer(request)
}

/// The browser client, which pages of any origin may import.
pub(super) fn client(request: &HeaderMap) -> Response {
    for_any_origin(CLIENT.answer(request))
}

/// The TypeScript declarations of the client.
pub(super) fn client_types(request: &HeaderMap) -> Response {
    for_any_origin(CLIENT_TYPES.answer(request))
}

fn for_any_origin(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    response
}

/// An embedded file.
struct Asset {
    media_type: &'static str,
    text: &'static [u8],
    /// The text, compressed with gzip.
    gzip: Option<&'static [u8]>,
    /// The hash of the text, which is its entity tag.
    hash: u64,
}

impl Asset {
    const fn new(media_type: &'static str, text: &'static [u8]) -> Self {
        Self { media_type, text, gzip: None, hash: hash(text) }
    }

    const fn module(text: &'static [u8]) -> Self {
        Self::new("text/javascript; charset=utf-8", text)
    }

    const fn compressed(self, gzip: &'static [u8]) -> Self {
        Self { gzip: Some(gzip), ..self }
    }

    /// The file, or 304 if the copy in the browser's cache is current (RFC 9110, section 13.1.2).
    fn answer(&self, request: &HeaderMap) -> Response {
        let tag = format!("{:016x}", self.hash);
        let mut response = match self.gzip.filter(|_| accepts_gzip(request)) {
            _ if matches_tag(request, &tag) => StatusCode::NOT_MODIFIED.into_response(),
            None => self.text.into_response(),
            Some(gzip) => ([(header::CONTENT_ENCODING, "gzip")], gzip).into_response(),
        };
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        put(header::CONTENT_TYPE, self.media_type);
        put(header::CACHE_CONTROL, "no-cache");
        put(header::CONTENT_SECURITY_POLICY, POLICY);
        put(header::X_FRAME_OPTIONS, "DENY");
        put(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        // No referrer: the URL of the console may contain channel names.
        put(header::REFERRER_POLICY, "no-referrer");
        if self.gzip.is_some() {
            put(header::VARY, "Accept-Encoding");
        }
        // Weak, since the compressed and the plain form have the same tag.
        let tag = HeaderValue::from_str(&format!("W/\"{tag}\"")).expect("hexadecimal digits");
        headers.insert(header::ETAG, tag);
        response
    }
}

/// Whether `If-None-Match` has this tag. A compressing proxy may have appended a suffix to it.
fn matches_tag(request: &HeaderMap, tag: &str) -> bool {
    let fields = request.get_all(header::IF_NONE_MATCH).iter();
    fields.filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.trim_start_matches("W/").trim_matches('"').starts_with(tag)
    })
}

/// Whether the client accepts gzip, and does not prefer a file that is not compressed (RFC 9110,
/// section 12.5.3).
fn accepts_gzip(request: &HeaderMap) -> bool {
    let (mut gzip, mut identity) = (0, 0);
    for (coding, weight) in weighted_names(request, header::ACCEPT_ENCODING) {
        if coding.eq_ignore_ascii_case("gzip") {
            gzip = weight;
        } else if coding.eq_ignore_ascii_case("identity") {
            identity = weight;
        }
    }
    gzip > 0 && gzip >= identity
}

/// The FNV-1a hash with 64 bits. It only validates caches, so it need not be cryptographic.
const fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

static PAGE: Asset = Asset::new("text/html; charset=utf-8", include_bytes!("console/index.html"));
/// The style sheet and the modules of the console.
static FILES: &[(&str, Asset)] = &[
    ("console.css", Asset::new("text/css; charset=utf-8", include_bytes!("console/console.css"))),
    ("api.js", Asset::module(include_bytes!("console/api.js"))),
    ("banner.js", Asset::module(include_bytes!("console/banner.js"))),
    ("channels.js", Asset::module(include_bytes!("console/channels.js"))),
    ("chart.js", Asset::module(include_bytes!("console/chart.js"))),
    ("confirm.js", Asset::module(include_bytes!("console/confirm.js"))),
    ("connections.js", Asset::module(include_bytes!("console/connections.js"))),
    ("console.js", Asset::module(include_bytes!("console/console.js"))),
    ("dom.js", Asset::module(include_bytes!("console/dom.js"))),
    ("drawer.js", Asset::module(include_bytes!("console/drawer.js"))),
    ("event_list.js", Asset::module(include_bytes!("console/event_list.js"))),
    ("event_row.js", Asset::module(include_bytes!("console/event_row.js"))),
    ("format.js", Asset::module(include_bytes!("console/format.js"))),
    ("listing.js", Asset::module(include_bytes!("console/listing.js"))),
    ("overview.js", Asset::module(include_bytes!("console/overview.js"))),
    ("poller.js", Asset::module(include_bytes!("console/poller.js"))),
    ("rates.js", Asset::module(include_bytes!("console/rates.js"))),
    ("row_table.js", Asset::module(include_bytes!("console/row_table.js"))),
    ("watch.js", Asset::module(include_bytes!("console/watch.js"))),
];
static ICON: Asset = Asset::new("image/svg+xml", include_bytes!("console/favicon.svg"));
/// Compressed with `gzip -9n`; a test checks that it matches the text.
static CLIENT: Asset =
    Asset::new("text/javascript; charset=utf-8", include_bytes!("console/visnyk.js"))
        .compressed(include_bytes!("console/visnyk.js.gz"));
static CLIENT_TYPES: Asset =
    Asset::new("text/plain; charset=utf-8", include_bytes!("console/visnyk.d.ts"));

/// The content security policy: the console loads only the hub's own files, and never interprets
/// text as script or markup. It shows data of other clients, and its token field holds a secret.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use serde_json::Value;

    use super::*;

    #[test]
    fn gzip_is_for_clients_that_accept_and_prefer_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("GZip;Q=1", true),
            ("br, gzip;q=0.001", true),
            ("gzip;q=0.5, identity;q=0.5", true),
            (",gzip,", true),
            ("gzip;q=0", false),
            ("gzip;Q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0.5, identity", false),
            ("br", false),
            ("gzipped", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(accepted);
            let request = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
            assert_eq!(accepts_gzip(&request), expected, "{accepted}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_described() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/console");
        let names = fs::read_dir(folder).expect("a folder").map(|entry| {
            entry.expect("an entry").file_name().into_string().expect("a name of letters")
        });
        // The page, its icon and the client have routes of their own.
        let of_page = |name: &String| {
            !name.starts_with("visnyk.") && (name.ends_with(".js") || name.ends_with(".css"))
        };
        let there: BTreeSet<String> = names.filter(of_page).collect();
        let served: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, there);
        let document: Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
        let parameter = &document["paths"]["/console/{file}"]["get"]["parameters"][0];
        let described = parameter["schema"]["enum"].as_array().expect("names").iter();
        let described: BTreeSet<String> =
            described.map(|name| name.as_str().expect("a name").to_owned()).collect();
        assert_eq!(described, served);
    }
}
