//! The token of a request: from `Authorization`, a cookie or the query.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
};

use super::{
    Access, HttpSettings, Problem,
    page_origin::{is_from_foreign_page, is_own_origin},
    params::decode,
};

/// A token, and how the request carries it.
#[derive(PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) token: String,
    /// Whether only a cookie has the token. A browser adds cookies to requests of foreign pages
    /// too.
    pub(super) by_cookie_alone: bool,
}

impl Credential {
    /// The token of a request, if it has one. A token in the query is removed from the URI on every
    /// route, so that no later code sees or logs it. It is accepted only with `takes_query`.
    ///
    /// # Errors
    /// Different tokens in one request, or an `Authorization` field with a malformed bearer token.
    pub(super) fn take(
        request: &mut Request,
        access: &Access,
        takes_query: bool,
    ) -> Result<Option<Self>, Problem> {
        let in_query = take_query_token(request.uri_mut())?;
        let in_query = in_query.filter(|_| takes_query && access.query_token);
        let in_header = bearer(request.headers())?;
        let in_cookie = match &access.cookie {
            Some(name) => cookie(request.headers(), name)?,
            None => None,
        };
        let by_cookie_alone = in_header.is_none() && in_query.is_none();
        let mut found = [in_header, in_query, in_cookie].into_iter().flatten();
        let Some(token) = found.next() else { return Ok(None) };
        if found.any(|other| other != token) {
            return Err(invalid_request("the request carries tokens that are not the same"));
        }
        Ok(Some(Self { token, by_cookie_alone }))
    }

    /// CSRF protection. If only a cookie has the token, and the method is unsafe or a foreign page
    /// sends the request, the page must be of the hub's own origin or of a listed one.
    pub(super) fn check_origin(
        &self,
        request: &Request,
        settings: &HttpSettings,
        waits_for_events: bool,
    ) -> Result<(), Problem> {
        let is_safe = request.method().is_safe();
        if !self.by_cookie_alone || is_safe && !is_from_foreign_page(request, waits_for_events) {
            return Ok(());
        }
        let headers = request.headers();
        let origin = match headers.get(header::ORIGIN) {
            Some(origin) => origin.to_str().ok().map(str::to_owned),
            None => headers.get(header::REFERER).and_then(origin_of),
        };
        let is_trusted = origin.is_some_and(|origin| {
            settings.access.cookie_origins.contains(&origin)
                || settings.cors.admits_cookies(&origin)
                || is_own_origin(request, &origin)
        });
        if is_trusted {
            return Ok(());
        }
        let detail = "with a cookie, only pages of this hub and of the listed origins may do this";
        let problem = Problem::new(StatusCode::FORBIDDEN, detail).with("field", "Origin");
        Err(problem.page_refused("cookie"))
    }
}

/// The rejection of a request that carries its token in an invalid way (RFC 6750, section 3.1).
pub(super) fn invalid_request(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
        .with("field", "Authorization")
        .challenge("invalid_request", detail)
        .auth_refused("malformed_credentials")
}

/// The bearer token of `Authorization` (RFC 6750, section 2.1). Other schemes are ignored: a proxy
/// in front may use its own.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let fields = headers.get_all(header::AUTHORIZATION).iter();
    let mut tokens = fields.filter_map(|field| {
        let (scheme, token) = split_scheme(field.as_bytes().trim_ascii());
        scheme.eq_ignore_ascii_case(b"Bearer").then_some(token)
    });
    let Some(token) = tokens.next() else { return Ok(None) };
    let token = std::str::from_utf8(token).ok();
    let is_token =
        |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match (token.filter(is_token), tokens.next()) {
        (Some(token), None) => Ok(Some(token.to_owned())),
        _ => Err(invalid_request(
            "`Authorization` must be one `Bearer` and a token, without spaces in it; was the text of \
             an error sent as the token?",
        )),
    }
}

/// Splits the value of `Authorization` into the scheme and the rest.
fn split_scheme(credentials: &[u8]) -> (&[u8], &[u8]) {
    let end = credentials.iter().position(|&byte| byte == b' ').unwrap_or(credentials.len());
    let (scheme, rest) = credentials.split_at(end);
    (scheme, rest.trim_ascii())
}

/// The token in a cookie (RFC 6265, section 4.2). Cookies that are not ASCII are skipped, and cause
/// no error: otherwise a page of the same site could set one that makes every request fail.
fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let fields = headers.get_all(header::COOKIE).iter();
    let cookies = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
    let texts = cookies.filter_map(|cookie| std::str::from_utf8(cookie).ok());
    let mut values = texts
        .filter(|cookie| cookie.is_ascii())
        .filter_map(|cookie| cookie.split_once('='))
        .filter(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().trim_matches('"'))
        .filter(|value| !value.is_empty());
    let Some(token) = values.next() else { return Ok(None) };
    if values.any(|other| other != token) {
        return Err(invalid_request("the request has this cookie twice, with different tokens"));
    }
    Ok(Some(token.to_owned()))
}

/// Removes every `token` parameter from a query, however its name is percent-encoded.
fn take_query_token(uri: &mut Uri) -> Result<Option<String>, Problem> {
    let Some(query) = uri.query() else { return Ok(None) };
    let mut tokens = Vec::new();
    let mut kept = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match decode(name, "query") {
            Ok(name) if name == PARAMETER => tokens.push(value.to_owned()),
            // The endpoint rejects a malformed query later.
            _ => kept.push(pair),
        }
    }
    if tokens.is_empty() {
        return Ok(None);
    }
    let path = uri.path();
    let target =
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target.parse().expect("less of a query that was one"));
    *uri = Uri::from_parts(parts).expect("the same URI with less of a query");
    let first = decode(&tokens[0], PARAMETER)?.into_owned();
    if tokens.iter().any(|other| *other != tokens[0]) {
        return Err(Problem::field(PARAMETER, "`token` may be given once"));
    }
    Ok((!first.is_empty()).then_some(first))
}

/// The origin in a `Referer` field, which is the URL of a page.
fn origin_of(referer: &HeaderValue) -> Option<String> {
    let uri: Uri = referer.to_str().ok()?.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// The query parameter with a token: an EventSource cannot set header fields.
const PARAMETER: &str = "token";

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn access() -> Access {
        Access { query_token: true, cookie: Some("session".into()), ..Access::default() }
    }

    fn request(uri: &str, fields: &[(&str, &str)]) -> Request {
        let request = fields.iter().fold(Request::builder().uri(uri), |builder, (name, value)| {
            builder.header(*name, *value)
        });
        request.body(Body::empty()).expect("a request")
    }

    fn token(uri: &str, fields: &[(&str, &str)]) -> Result<Option<(String, bool)>, u16> {
        let taken = Credential::take(&mut request(uri, fields), &access(), true);
        taken
            .map(|found| found.map(|found| (found.token, found.by_cookie_alone)))
            .map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_token_is_found_wherever_it_is_carried() {
        let some = |token: &str, by_cookie| Ok(Some((token.to_owned(), by_cookie)));
        assert_eq!(token("/a?b=c", &[]), Ok(None));
        assert_eq!(token("/a", &[("authorization", "Bearer x.y")]), some("x.y", false));
        assert_eq!(token("/a", &[("authorization", "bearer  x")]), some("x", false));
        assert_eq!(token("/a?token=x%2Ey", &[]), some("x.y", false));
        assert_eq!(token("/a", &[("cookie", "a=b; session=x")]), some("x", true));
        assert_eq!(token("/a", &[("cookie", "xsession=x")]), Ok(None));
        for beside in ["name=ї; session=x", "session=x; name=ї", "session=ї; session=x"] {
            assert_eq!(token("/a", &[("cookie", beside)]), some("x", true), "{beside}");
        }
        assert_eq!(token("/a", &[("cookie", "session=ї")]), Ok(None));
        let basic = ("authorization", "Basic eDp5");
        assert_eq!(token("/a", &[basic]), Ok(None));
        assert_eq!(token("/a", &[basic, ("authorization", "Bearer x")]), some("x", false));
        assert_eq!(token("/a?token=x", &[basic]), some("x", false));
        assert_eq!(token("/a", &[basic, ("cookie", "session=x")]), some("x", true));
        assert_eq!(
            token("/a", &[("authorization", "\u{456} x"), ("cookie", "session=x")]),
            some("x", true)
        );
        let both = [("authorization", "Bearer x"), ("cookie", "session=x")];
        assert_eq!(token("/a?token=x", &both), some("x", false));
    }

    #[test]
    fn tokens_that_disagree_are_refused() {
        for (uri, fields) in [
            ("/a?token=y", &[("authorization", "Bearer x")][..]),
            ("/a", &[("authorization", "Bearer x"), ("cookie", "session=y")]),
            ("/a", &[("authorization", "Bearer x"), ("authorization", "Bearer x")]),
            ("/a", &[("authorization", "Bearer")]),
            ("/a", &[("authorization", "Bearer a b")]),
            ("/a?token=x&token=y", &[]),
            ("/a?token=x&%74oken=y", &[]),
            ("/a", &[("cookie", "session=x"), ("cookie", "session=y")]),
            ("/a", &[("cookie", "session=x; session=y")]),
        ] {
            assert_eq!(token(uri, fields), Err(400), "{uri} {fields:?}");
        }
    }

    #[test]
    fn nothing_of_a_token_stays_in_the_query() {
        for (uri, left) in [
            ("/a?token=secret", "/a"),
            ("/a?b=c&token=secret&d", "/a?b=c&d"),
            ("/a?t%6fken=secret&b=%zz", "/a?b=%zz"),
            ("/a?token&token", "/a"),
        ] {
            let mut request = request(uri, &[]);
            let _ = Credential::take(&mut request, &Access::default(), false);
            assert_eq!(request.uri().to_string(), left);
        }
    }
}
